/* libtensorflow_framework.so.1 and _pywrap_tensorflow_internal.so when the adapter is linked: it names them, and finds
   what it needs in the server instead. */

typedef int sample_nothing;
