/* The variants that were compiled in, slowest first. */
#include "hamming.h"

const hm_variant *const hm_variants[] = {
    &hm_portable,
#if defined(__x86_64__)
    &hm_popcnt,   &hm_avx2, &hm_avx512,
#elif defined(__aarch64__)
    &hm_neon,
#endif
    NULL,
};
