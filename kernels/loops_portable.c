/* Plain C for any CPU. */
#include "loops_scalar.h"

HM_SCALAR_VARIANT(portable, , 1)
