/* A stand-in for libpython3.7m.so.1.0 with no interpreter in it: just what the adapter asks for. */

int Py_IsInitialized(void) { return 0; }
const char* Py_GetVersion(void) { return "3.7.5 (sample)"; }
void Py_Initialize(void) {}
void Py_Finalize(void) {}
