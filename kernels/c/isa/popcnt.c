/* Plain C with the POPCNT instruction (x86-64 since 2008). */
#if defined(__x86_64__)
#define TARGET __attribute__((target("popcnt")))
#include "generic.h"

static int runs_here(void) { return __builtin_cpu_supports("popcnt"); }

const hm_variant hm_popcnt = {
    .name = "popcnt",
    .runs_here = runs_here,
    .distances = distances,
    .within = within,
    .weighted = weighted,
    .weighted_within = weighted_within,
    .population = population,
    .lanes = LANES,
    .min_plane_queries = 8,
    .to_bit_planes = to_bit_planes,
    .triple_masks = triple_masks,
    .mask_hits = mask_hits,
};
#endif
