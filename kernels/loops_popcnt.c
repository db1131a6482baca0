/* Plain C with the POPCNT instruction (x86-64 since 2008). */
#include "loops_scalar.h"

#if defined(__x86_64__)
HM_SCALAR_VARIANT(popcnt, __attribute__((target("popcnt"))), __builtin_cpu_supports("popcnt"))
#endif
