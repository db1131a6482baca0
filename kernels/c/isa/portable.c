/* Plain C for any CPU. */
#define TARGET
#include "generic.h"

static int runs_here(void) { return 1; }

const hm_variant hm_portable = {
    .name = "portable",
    .runs_here = runs_here,
    .distances = distances,
    .within = within,
    .weighted = weighted,
    .weighted_within = weighted_within,
    .population = population,
    .lanes = LANES,
    .min_plane_queries = 1,
    .to_bit_planes = to_bit_planes,
    .triple_masks = triple_masks,
    .mask_hits = mask_hits,
};
