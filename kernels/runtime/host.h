/* How the bench image asks for its command line and files: by semihosting of the emulator or debugger, or with
 * EDGEC_SERIAL defined over a serial line. */
#ifdef EDGEC_SERIAL
#include "serial.h"
#else
#include "semihosting.h"
#endif
