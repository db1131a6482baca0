/* Plain C for any CPU. */
#define TARGET
#include "generic.h"

static int runs_here(void) { return 1; }

const hm_loops hm_portable = {
    .name = "portable",
    .runs_here = runs_here,
    .distances = distances,
    .within = within,
    .weighted = weighted,
    .weighted_within = weighted_within,
    .population = population,
    .lanes = LANES,
    .planes_from = 1,
    .slice_block = slice_block,
    .trio_masks = trio_masks,
    .mask_hits = mask_hits,
};
