/* Many queries against one block of rows, bit by bit: the text of this loop, for one instruction set.
 *
 * The rows of a block are turned on their side: plane b holds bit b of every row, one row per bit of a register. Adding
 * up planes with full adders (two instructions each with AVX-512) then counts differing bits for 512 rows at once.
 * Two queries share most of that work. Where they agree, a plane counts alike for both; where they differ, it counts for
 * one exactly when it does not for the other. So with
 *     E = differing bits among the places where the two queries agree,
 *     N = bits that differ from the first query among the m places where the queries disagree,
 * the distances are E + N and E + m - N, and every plane is added once for both.
 *
 * The including file defines LANES (64-bit words of a register) and TARGET (the attribute of its functions) before, and
 * full_adder and borrow after; this file defines slice_block, pair_masks and mask_hits.
 */
#include "loops_scalar.h"

typedef uint64_t plane __attribute__((vector_size(8 * LANES)));

/* The sum of three bits per row: its lower bit is returned, the upper one goes to *carry. */
TARGET HM_INLINE plane full_adder(plane a, plane b, plane c, plane *carry);
/* The majority of ~a, b and c. */
TARGET HM_INLINE plane borrow(plane a, plane b, plane c);

#if LANES == 2
#define EVEN 0, 2
#define ODD 1, 3
#elif LANES == 4
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#else
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#endif

TARGET HM_INLINE plane load_plane(const uint64_t *words) {
    plane p;
    __builtin_memcpy(&p, words, sizeof p);
    return p;
}

/* Row `bit` of each lane, side by side: so the lanes of a mask are in row order. */
TARGET HM_INLINE void deal_rows(const uint64_t *rows, int words, uint64_t *dealt) {
    for (int lane = 0; lane < LANES; lane++) /* in the order of memory, which the processor's prefetcher follows */
        for (int bit = 0; bit < 64; bit++)
            __builtin_memcpy(dealt + (bit * LANES + lane) * words, rows + (lane * 64 + bit) * words, 8 * (size_t)words);
}

/* Column w of LANES rows, into columns[64 * w]. */
TARGET HM_INLINE void split_words(const uint64_t *rows, int words, plane *columns) {
    if (words == 1) {
        columns[0] = load_plane(rows);
    } else if (words == 2) {
        plane a = load_plane(rows), b = load_plane(rows + LANES);
        columns[0] = __builtin_shufflevector(a, b, EVEN);
        columns[64] = __builtin_shufflevector(a, b, ODD);
    } else if (words == 4) {
        plane a = load_plane(rows), b = load_plane(rows + LANES);
        plane c = load_plane(rows + 2 * LANES), d = load_plane(rows + 3 * LANES);
        plane low02 = __builtin_shufflevector(a, b, EVEN), low13 = __builtin_shufflevector(a, b, ODD);
        plane high02 = __builtin_shufflevector(c, d, EVEN), high13 = __builtin_shufflevector(c, d, ODD);
        columns[0] = __builtin_shufflevector(low02, high02, EVEN);
        columns[64] = __builtin_shufflevector(low13, high13, EVEN);
        columns[128] = __builtin_shufflevector(low02, high02, ODD);
        columns[192] = __builtin_shufflevector(low13, high13, ODD);
    } else {
        for (int lane = 0; lane < LANES; lane++)
            for (int w = 0; w < words; w++) columns[64 * w][lane] = rows[lane * words + w];
    }
}

/* Swap the bits of *a above `shift` that the shifted mask covers with the bits of *b that the mask covers. */
TARGET HM_INLINE void swap_bits(plane *a, plane *b, int shift, uint64_t mask) {
    plane swapped = ((*a >> shift) ^ *b) & mask;
    *b ^= swapped;
    *a ^= swapped << shift;
}

/* Three of the six steps of a 64 x 64 bit transposition, on eight registers `stride` apart. */
TARGET HM_INLINE void swap_eight(plane *v, int stride, int shift, const uint64_t masks[3]) {
    plane r[8];
    for (int i = 0; i < 8; i++) r[i] = v[i * stride];
    for (int i = 0; i < 4; i++) swap_bits(&r[i], &r[i + 4], 4 * shift, masks[0]);
    for (int i = 0; i < 8; i += 4)
        for (int j = i; j < i + 2; j++) swap_bits(&r[j], &r[j + 2], 2 * shift, masks[1]);
    for (int i = 0; i < 8; i += 2) swap_bits(&r[i], &r[i + 1], shift, masks[2]);
    for (int i = 0; i < 8; i++) v[i * stride] = r[i];
}

/* 64 registers, each lane on its own: bit j of register i becomes bit i of register j. */
TARGET HM_INLINE void transpose_bits(plane *v) {
    static const uint64_t masks[6] = {0x00000000ffffffff, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff,
                                      0x0f0f0f0f0f0f0f0f, 0x3333333333333333, 0x5555555555555555};
    for (int i = 0; i < 8; i++) swap_eight(v + i, 8, 8, masks);
    for (int i = 0; i < 64; i += 8) swap_eight(v + i, 1, 1, masks + 3);
}

TARGET HM_INLINE void slice_words(const uint64_t *rows, int words, plane *out) {
    uint64_t dealt[64 * LANES * HM_MAX_SHORT_WORDS];
    plane columns[64 * HM_MAX_SHORT_WORDS];
    deal_rows(rows, words, dealt);
    for (int i = 0; i < 64; i++) split_words(dealt + i * LANES * words, words, columns + i);
    for (int w = 0; w < words; w++) transpose_bits(columns + 64 * w);
    for (int bit = 0; bit < 64 * words; bit++) {
        out[2 * bit] = columns[bit];
        out[2 * bit + 1] = ~columns[bit];
    }
    out[2 * HM_MAX_SHORT_BITS] = (plane){0}; /* the plane of padding */
}

/* Lay 64 * LANES rows out as planes: 2b is bit b, 2b + 1 its complement. Row r is bit r % 64 of lane r / 64. */
TARGET static void slice_block(const uint64_t *rows, int words, void *planes) {
    switch (words) {
        case 1: slice_words(rows, 1, planes); break;
        case 2: slice_words(rows, 2, planes); break;
        case 3: slice_words(rows, 3, planes); break;
        default: slice_words(rows, 4, planes);
    }
}

/* Add sixteen planes to the lower half of a counter; what is returned is worth 16 per bit. `list` holds byte offsets. */
TARGET HM_INLINE plane add_sixteen(const char *planes, const uint16_t *list, plane count[4]) {
    plane two[2], four[2], eight[2], sixteen;
    for (int half = 0; half < 2; half++) {
        for (int quarter = 0; quarter < 2; quarter++, list += 4) {
            const plane *a = (const plane *)(planes + list[0]), *b = (const plane *)(planes + list[1]);
            const plane *c = (const plane *)(planes + list[2]), *d = (const plane *)(planes + list[3]);
            count[0] = full_adder(count[0], *a, *b, &two[0]);
            count[0] = full_adder(count[0], *c, *d, &two[1]);
            count[1] = full_adder(count[1], two[0], two[1], &four[quarter]);
        }
        count[2] = full_adder(count[2], four[0], four[1], &eight[half]);
    }
    count[3] = full_adder(count[3], eight[0], eight[1], &sixteen);
    return sixteen;
}

/* Add a carry to the bits of a counter from `bit` up. */
TARGET HM_INLINE void ripple(plane count[HM_COUNTER_BITS], int bit, plane carry) {
    for (; bit < HM_COUNTER_BITS; bit++) {
        plane next = count[bit] & carry;
        count[bit] ^= carry;
        carry = next;
    }
}

/* How many of the planes listed have the bit set, for each row, as a number laid over HM_COUNTER_BITS planes. */
TARGET HM_INLINE void count_planes(const void *planes, const uint16_t *list, int sixteens,
                                   plane count[HM_COUNTER_BITS]) {
    for (int bit = 0; bit < HM_COUNTER_BITS; bit++) count[bit] = (plane){0};
    for (; sixteens >= 2; sixteens -= 2, list += 32) {
        plane carry, one = add_sixteen(planes, list, count), other = add_sixteen(planes, list + 16, count);
        count[4] = full_adder(count[4], one, other, &carry);
        ripple(count, 5, carry);
    }
    if (sixteens) ripple(count, 4, add_sixteen(planes, list, count));
}

/* Rows whose number is at most the limit: from the lowest bit up, the higher bit decides, which is the majority of
 * "at most so far", "this bit is 0" and "the limit's bit is 1". */
TARGET HM_INLINE plane at_most(const plane *number, const uint64_t *limit_bits, int bits) {
    plane result = ~(plane){0};
    for (int bit = 0; bit < bits; bit++) result = borrow(number[bit], result, (plane){0} + limit_bits[bit]);
    return result;
}

/* Which rows of the block are within the pair's thresholds? LANES words per query. */
TARGET static void pair_masks(const void *planes, const hm_pair *pair, uint64_t *masks) {
    plane agree[HM_COUNTER_BITS], differ[HM_COUNTER_BITS], distance[HM_COUNTER_BITS + 1], carry = {0};
    count_planes(planes, pair->list, pair->sixteens[0], agree);
    count_planes(planes, pair->list + 16 * pair->sixteens[0], pair->sixteens[1], differ);

    for (int bit = 0; bit < HM_COUNTER_BITS; bit++) distance[bit] = full_adder(agree[bit], differ[bit], carry, &carry);
    plane within = at_most(distance, pair->limit_bits[0], HM_COUNTER_BITS);
    __builtin_memcpy(masks, &within, sizeof within);

    /* E + ~N = E - N + 511 in nine bits, and a tenth for the carry */
    carry = (plane){0};
    for (int bit = 0; bit < HM_COUNTER_BITS; bit++) distance[bit] = full_adder(agree[bit], ~differ[bit], carry, &carry);
    distance[HM_COUNTER_BITS] = carry;
    within = at_most(distance, pair->limit_bits[1], HM_COUNTER_BITS + 1);
    __builtin_memcpy(masks + LANES, &within, sizeof within);
}

/* The hits that a mask names, in row order, with their distances; the mask is used up. The number of hits is a surprise
 * to the branch predictor once per mask; what comes between two hits has no branch. */
TARGET HM_INLINE size_t list_hits(uint64_t *mask, const uint64_t *query, const uint64_t *rows, int words,
                                  uint64_t first, uint64_t *out) {
    size_t found = 0;
    unsigned lanes_left = 0;
    for (int lane = 0; lane < LANES; lane++) lanes_left |= (unsigned)(mask[lane] != 0) << lane;
    while (lanes_left) {
        int lane = __builtin_ctz(lanes_left);
        size_t row = 64 * (size_t)lane + (size_t)__builtin_ctzll(mask[lane]);
        mask[lane] &= mask[lane] - 1;
        lanes_left &= ~((unsigned)(mask[lane] == 0) << lane);
        out[found++] = hm_hit(scalar_distance(query, rows + row * (size_t)words, words), first + row);
    }
    return found;
}

TARGET static size_t mask_hits(uint64_t *mask, const uint64_t *query, const uint64_t *rows, int words, uint64_t first,
                               uint64_t *out) {
    switch (words) {
        case 1: return list_hits(mask, query, rows, 1, first, out);
        case 2: return list_hits(mask, query, rows, 2, first, out);
        case 3: return list_hits(mask, query, rows, 3, first, out);
        default: return list_hits(mask, query, rows, 4, first, out);
    }
}
