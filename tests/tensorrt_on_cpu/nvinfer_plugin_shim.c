/* libnvinfer_plugin without plugins, which an encoder does not need. */
int initLibNvInferPlugins(void *logger, const char *library_namespace)
{
    (void)logger;
    (void)library_namespace;
    return 1;
}
