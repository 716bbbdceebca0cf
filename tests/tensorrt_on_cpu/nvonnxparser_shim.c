/* libnvonnxparser, in the same way: the ONNX parser of TensorRT-RTX. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *library(void)
{
    static void *parser;
    if (parser == NULL && (parser = dlopen("libtensorrt_onnxparser_rtx.so.1", RTLD_NOW | RTLD_GLOBAL)) == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        abort();
    }
    return parser;
}

int getNvOnnxParserVersion(void)
{
    return ((int (*)(void))dlsym(library(), "getNvOnnxParserVersion"))();
}

void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version)
{
    (void)version;
    return ((void *(*)(void *, void *, int))dlsym(library(), "createNvOnnxParser_INTERNAL"))(
        network, logger, getNvOnnxParserVersion());
}

void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version)
{
    (void)version;
    return ((void *(*)(void *, void *, int))dlsym(library(), "createNvOnnxParserRefitter_INTERNAL"))(
        refitter, logger, getNvOnnxParserVersion());
}
