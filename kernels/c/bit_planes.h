/* Many queries against one block of rows, bit by bit, for the instruction set of the file that includes this one.
 *
 * A block of rows is transposed: bit plane b holds bit b of every row, one row per bit of a register. Adding up planes
 * with full adders (two instructions each with AVX-512) then counts differing bits for 512 rows at once.
 * Three queries share most of that work. Say that a plane counts when its bit differs from the first query's; where the
 * second query differs from the first, it counts for the second exactly when it does not for the first. So the bits of
 * a code fall into four classes, by whether the second and the third query differ from the first there, and with A, B,
 * C and D counted over the classes (none, second, third, both), of b, c and d members, the distances are
 *
 *     A + B + C + D, A + C + b + d - (B + D) and A + B + c + d - (C + D),
 *
 * and every plane is added once for all three. Four queries would need eight classes, whose sums cost what is saved.
 *
 * The including file defines LANES (64-bit words of a register) and TARGET (the attribute of its functions) before, and
 * full_adder, borrow and lanes_with_bits after; this file defines to_bit_planes, triple_masks and mask_hits.
 */
#include "isa/scalar.h"

typedef uint64_t plane __attribute__((vector_size(8 * LANES)));

/* The sum of three bits per row: its lower bit is returned, the upper one goes to *carry. */
TARGET HM_INLINE plane full_adder(plane a, plane b, plane c, plane *carry);
/* The majority of ~a, b and c. */
TARGET HM_INLINE plane borrow(plane a, plane b, plane c);
/* Bit i: is any bit of lane i set? */
TARGET HM_INLINE unsigned lanes_with_bits(plane p);

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

/* Row `bit` of each lane next to each other, so that the lanes of a mask are in row order. */
TARGET HM_INLINE void interleave_rows(const uint64_t *rows, int words, uint64_t *interleaved) {
    for (int lane = 0; lane < LANES; lane++) /* in the order of memory, for the processor's prefetcher */
        for (int bit = 0; bit < 64; bit++)
            __builtin_memcpy(interleaved + (bit * LANES + lane) * words, rows + (lane * 64 + bit) * words,
                             8 * (size_t)words);
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

TARGET HM_INLINE void words_to_bit_planes(const uint64_t *rows, int words, plane *planes) {
    uint64_t interleaved[64 * LANES * HM_MAX_SHORT_WORDS];
    interleave_rows(rows, words, interleaved);
    for (int i = 0; i < 64; i++) split_words(interleaved + i * LANES * words, words, planes + i);
    for (int w = 0; w < words; w++) transpose_bits(planes + 64 * w);
    planes[HM_MAX_SHORT_BITS] = (plane){0}; /* pads the groups of planes */
}

/* Transpose 64 * LANES rows to bit planes. Row r is bit r % 64 of lane r / 64. */
TARGET static void to_bit_planes(const uint64_t *rows, int words, void *planes) {
    switch (words) {
        case 1: words_to_bit_planes(rows, 1, planes); break;
        case 2: words_to_bit_planes(rows, 2, planes); break;
        case 3: words_to_bit_planes(rows, 3, planes); break;
        default: words_to_bit_planes(rows, 4, planes);
    }
}

/* Add eight planes to the lower bits of a counter; returns the carry, 8 per bit. `list` holds byte offsets. */
TARGET HM_INLINE plane add_8_planes(const char *planes, const uint16_t *list, plane count[3]) {
    plane two[2], four[2], eight;
    for (int half = 0; half < 2; half++, list += 4) {
        const plane *a = (const plane *)(planes + list[0]), *b = (const plane *)(planes + list[1]);
        const plane *c = (const plane *)(planes + list[2]), *d = (const plane *)(planes + list[3]);
        count[0] = full_adder(count[0], *a, *b, &two[0]);
        count[0] = full_adder(count[0], *c, *d, &two[1]);
        count[1] = full_adder(count[1], two[0], two[1], &four[half]);
    }
    count[2] = full_adder(count[2], four[0], four[1], &eight);
    return eight;
}

/* The same with sixteen planes and a carry of 16 per bit. */
TARGET HM_INLINE plane add_16_planes(const char *planes, const uint16_t *list, plane count[4]) {
    plane sixteen, eight = add_8_planes(planes, list, count), other = add_8_planes(planes, list + 8, count);
    count[3] = full_adder(count[3], eight, other, &sixteen);
    return sixteen;
}

/* Add a carry to the bits of a counter from `bit` up to `bits`. */
TARGET HM_INLINE void ripple(plane *count, int bit, int bits, plane carry) {
    for (; bit < bits; bit++) {
        plane next = count[bit] & carry;
        count[bit] ^= carry;
        carry = next;
    }
}

TARGET HM_INLINE const uint16_t *add_planes(const void *planes, const uint16_t *list, int groups, int bits,
                                            plane *count) {
    for (; groups >= 4; groups -= 4, list += 32) {
        plane carry, one = add_16_planes(planes, list, count), other = add_16_planes(planes, list + 16, count);
        count[4] = full_adder(count[4], one, other, &carry);
        ripple(count, 5, bits, carry);
    }
    if (groups & 2) {
        ripple(count, 4, bits, add_16_planes(planes, list, count));
        list += 16;
    }
    if (groups & 1) {
        ripple(count, 3, bits, add_8_planes(planes, list, count));
        list += 8;
    }
    return list;
}

/* In how many bits of a class each row differs from the first query, as a number over `bits` planes.
 * Where that query has m ones, a plane counts when its bit is 0. So the counter starts at ~m, adds these planes, is
 * complemented, which gives m - count, and goes on with the others: no plane needs a complement. */
TARGET HM_INLINE const uint16_t *count_class(const void *planes, const uint16_t *list, const int groups[2],
                                             const uint64_t *start_bits, int bits, plane *count) {
    for (int bit = 0; bit < bits; bit++) count[bit] = (plane){0} + start_bits[bit];
    list = add_planes(planes, list, groups[0], bits, count);
    for (int bit = 0; bit < bits; bit++) count[bit] = ~count[bit];
    return add_planes(planes, list, groups[1], bits, count);
}

/* Rows whose number is at most the limit: from the lowest bit up, the higher bit decides, which is the majority of
 * "at most so far", "this bit is 0" and "the limit's bit is 1". */
TARGET HM_INLINE plane at_most(const plane *number, const uint64_t *limit_bits, int bits) {
    plane result = ~(plane){0};
    for (int bit = 0; bit < bits; bit++) result = borrow(number[bit], result, (plane){0} + limit_bits[bit]);
    return result;
}

/* a + b, or a + ~b; returns the carry beyond the highest bit. */
TARGET HM_INLINE plane add_numbers(const plane *a, const plane *b, int complement, int bits, plane *sum) {
    plane carry = {0};
    for (int bit = 0; bit < bits; bit++) sum[bit] = full_adder(a[bit], complement ? ~b[bit] : b[bit], carry, &carry);
    return carry;
}

TARGET HM_INLINE void add_counts(const plane *a, const plane *b, int bits, plane *sum) {
    plane carry = add_numbers(a, b, 0, bits, sum);
    if (hm_sum_bits(bits) > bits) sum[bits] = carry;
}

/* Mask the rows where a + b, or a + ~b, is at most the limit. */
TARGET HM_INLINE void mask_sum(const plane *a, const plane *b, int complement, int bits, const uint64_t *limit_bits,
                               uint64_t *mask) {
    plane sum[HM_COUNTER_BITS + 1];
    sum[bits] = add_numbers(a, b, complement, bits, sum);
    plane within = at_most(sum, limit_bits, bits + 1);
    __builtin_memcpy(mask, &within, sizeof within);
}

TARGET HM_INLINE void masks_by_counters(const void *planes, const hm_query_triple *triple, int bits, uint64_t *masks,
                                        size_t stride) {
    plane count[HM_CLASSES][HM_COUNTER_BITS], a[HM_COUNTER_BITS], b[HM_COUNTER_BITS];
    const uint16_t *list = triple->list;
    for (int class = 0; class < HM_CLASSES; class++)
        list = count_class(planes, list, triple->groups[class], triple->start_bits[class], bits, count[class]);
    add_counts(count[0], count[2], bits, a);
    add_counts(count[1], count[3], bits, b);
    mask_sum(a, b, 0, hm_sum_bits(bits), triple->limit_bits[0], masks);
    mask_sum(a, b, 1, hm_sum_bits(bits), triple->limit_bits[1], masks + stride);
    add_counts(count[0], count[1], bits, a);
    add_counts(count[2], count[3], bits, b);
    mask_sum(a, b, 1, hm_sum_bits(bits), triple->limit_bits[2], masks + 2 * stride);
}

/* Mask the rows of the block that are within the triple's thresholds: LANES words per query. */
TARGET static void triple_masks(const void *planes, const hm_query_triple *triple, uint64_t *masks, size_t stride) {
    if (triple->small)
        masks_by_counters(planes, triple, HM_SMALL_COUNTER_BITS, masks, stride);
    else
        masks_by_counters(planes, triple, HM_COUNTER_BITS, masks, stride);
}

/* The hits of a mask, in row order, with their distances. The branch predictor misses once per mask, at its last hit;
 * between two hits there is no branch. */
TARGET HM_INLINE size_t list_hits(uint64_t *mask, int mask_words, const uint64_t *query, const uint64_t *rows,
                                  int words, uint64_t first, uint64_t *out) {
    size_t found = 0;
    uint64_t remaining = 0; /* words of the mask that still have bits */
    for (int word = 0; word < mask_words; word += LANES)
        remaining |= (uint64_t)lanes_with_bits(load_plane(mask + word)) << word;
    while (remaining) {
        int word = __builtin_ctzll(remaining);
        size_t row = 64 * (size_t)word + (size_t)__builtin_ctzll(mask[word]);
        mask[word] &= mask[word] - 1;
        remaining &= ~((uint64_t)(mask[word] == 0) << word);
        out[found++] = hm_hit(scalar_distance(query, rows + row * (size_t)words, words), first + row);
    }
    return found;
}

TARGET static size_t mask_hits(uint64_t *mask, int mask_words, const uint64_t *query, const uint64_t *rows, int words,
                               uint64_t first, uint64_t *out) {
    switch (words) {
        case 1: return list_hits(mask, mask_words, query, rows, 1, first, out);
        case 2: return list_hits(mask, mask_words, query, rows, 2, first, out);
        case 3: return list_hits(mask, mask_words, query, rows, 3, first, out);
        default: return list_hits(mask, mask_words, query, rows, 4, first, out);
    }
}
