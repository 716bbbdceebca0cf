/* libnvinfer for a machine that has no TensorRT: passes the entry points that TensorRT's Python bindings look up on
 * to the TensorRT-RTX library, which needs no GPU to compile, and tells it its own version number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *library(void)
{
    static void *rtx;
    if (rtx == NULL && (rtx = dlopen("libtensorrt_rtx.so.1", RTLD_NOW | RTLD_GLOBAL)) == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        abort();
    }
    return rtx;
}

static int its_version(void)
{
    return ((int (*)(void))dlsym(library(), "getInferLibVersion"))();
}

void *createInferBuilder_INTERNAL(void *logger, int version)
{
    (void)version;
    return ((void *(*)(void *, int))dlsym(library(), "createInferBuilder_INTERNAL"))(logger, its_version());
}

void *createInferRuntime_INTERNAL(void *logger, int version)
{
    (void)version;
    return ((void *(*)(void *, int))dlsym(library(), "createInferRuntime_INTERNAL"))(logger, its_version());
}

void *createInferRefitter_INTERNAL(void *engine, void *logger, int version)
{
    (void)version;
    return ((void *(*)(void *, void *, int))dlsym(library(), "createInferRefitter_INTERNAL"))(engine, logger,
                                                                                             its_version());
}

void *getPluginRegistry(void)
{
    return ((void *(*)(void))dlsym(library(), "getPluginRegistry"))();
}

void *getBuilderPluginRegistry(int capability)
{
    return ((void *(*)(int))dlsym(library(), "getBuilderPluginRegistry"))(capability);
}
