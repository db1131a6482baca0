/* Three queries as lists of planes (see bit_planes.h). */
#include "search.h"

static int bit_of(const uint64_t *code, int bit) { return (int)(code[bit / 64] >> bit % 64 & 1); }

/* The class of a place: bit 0, does the second query differ from the first; bit 1, does the third? */
static int class_of(const uint64_t *const queries[HM_TRIO], int bit) {
    int one = bit_of(queries[0], bit);
    return (bit_of(queries[1], bit) != one) | (bit_of(queries[2], bit) != one) << 1;
}

/* List the planes of a class where the first query has `wanted`, padded to eights; returns how many there are. */
static int list_planes(const uint64_t *const queries[HM_TRIO], int bits, int class, int wanted, size_t plane_bytes,
                       uint16_t *list, int *eights) {
    int listed = 0, found;
    for (int bit = 0; bit < bits; bit++)
        if (class_of(queries, bit) == class && bit_of(queries[0], bit) == wanted)
            list[listed++] = (uint16_t)(plane_bytes * (size_t)bit);
    found = listed;
    while (listed % 8) list[listed++] = (uint16_t)(plane_bytes * HM_MAX_SHORT_BITS);
    *eights = listed / 8;
    return found;
}

static void spread_bits(int number, int bits, uint64_t *spread) {
    for (int bit = 0; bit < bits; bit++) spread[bit] = (uint64_t)0 - (uint64_t)(number >> bit & 1);
}

/* A distance with members that count the other way comes as E + ~N = E - N + 2^k - 1 where it is E - N + members; the sums
 * of two classes, E and N, have k bits. */
static void set_offsets(hm_trio *trio, const int members[HM_TRIO_CLASSES]) {
    int complement = (1 << hm_sum_bits(trio->small ? HM_SMALL_COUNTER_BITS : HM_COUNTER_BITS)) - 1;
    trio->offsets[0] = 0;
    trio->offsets[1] = complement - members[1] - members[3];
    trio->offsets[2] = complement - members[2] - members[3];
    for (int i = 0; i < HM_TRIO; i++) trio->thresholds[i] = -1;
}

void hm_trio_prepare(const uint64_t *const queries[HM_TRIO], int words, int lanes, hm_trio *trio) {
    size_t plane_bytes = 8 * (size_t)lanes; /* 257 planes of 64 bytes: an offset fits 16 bits */
    int bits = 64 * words, members[HM_TRIO_CLASSES];
    uint16_t *list = trio->list;
    trio->small = 1;
    for (int class = 0; class < HM_TRIO_CLASSES; class++) {
        int *eights = trio->eights[class];
        int ones = list_planes(queries, bits, class, 1, plane_bytes, list, &eights[0]);
        int zeros = list_planes(queries, bits, class, 0, plane_bytes, list + 8 * eights[0], &eights[1]);
        list += 8 * (eights[0] + eights[1]);
        members[class] = ones + zeros;
        trio->small &= members[class] < 1 << HM_SMALL_COUNTER_BITS;
        spread_bits(-1 - ones, HM_COUNTER_BITS, trio->start_bits[class]);
    }
    set_offsets(trio, members);
}

void hm_trio_thresholds(hm_trio *trio, const int thresholds[HM_TRIO]) {
    for (int i = 0; i < HM_TRIO; i++) {
        if (trio->thresholds[i] == thresholds[i]) continue;
        trio->thresholds[i] = thresholds[i];
        spread_bits(thresholds[i] + trio->offsets[i], HM_COUNTER_BITS + 1, trio->limit_bits[i]);
    }
}
