/* What the two kinds of search share. */
#include "search.h"

int hm_range_count(int threads, size_t n, size_t min_rows) {
    size_t ranges = n / min_rows;
    if (threads < 1 || ranges < 1) return 1;
    return (size_t)threads < ranges ? threads : (int)ranges;
}

const uint64_t *hm_uneven_weights(const hm_query *query, int words, uint64_t *factor) {
    *factor = 1;
    for (int w = 1; w < words; w++)
        if (query->word_weights[w] != query->word_weights[0]) return query->word_weights;
    *factor = query->word_weights[0];
    return NULL;
}

int hm_found_reserve(hm_found *found, size_t rows) {
    found->row = malloc((rows + 1) * sizeof *found->row);
    found->short_distance = malloc((rows + 1) * sizeof *found->short_distance);
    found->long_distance = malloc((rows + 1) * sizeof *found->long_distance);
    found->rows = rows;
    return found->row && found->short_distance && found->long_distance ? 0 : -1;
}

void hm_found_free(hm_found *found, size_t query_count) {
    for (size_t q = 0; q < query_count; q++) {
        free(found[q].row);
        free(found[q].short_distance);
        free(found[q].long_distance);
    }
}
