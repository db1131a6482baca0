# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The conditions of C for NumPy arrays. Types and lengths are checked by ``masks.py``, which calls this."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "masks.h" nogil:
    ctypedef struct mk_set:
        const uint8_t *table
        uint32_t size
        const uint32_t *wanted
        int count
    ctypedef struct mk_box:
        int32_t south
        int32_t north
        int32_t west[2]
        int32_t east[2]
    ctypedef struct mk_circle:
        mk_box outer
        mk_box inner
        double lat
        double lon
        double cos_lat
        double limit
        double margin
    ctypedef struct mk_texts:
        const uint8_t *data
        const int64_t *starts
        const int64_t *lengths
        size_t count
    ctypedef struct mk_ids:
        const uint32_t *words
        const uint32_t *offsets
    ctypedef struct mk_variant:
        const char *name
        int (*runs_here)() noexcept nogil
        void (*within_f64)(const double *, size_t, double, double, uint64_t *) noexcept nogil
        void (*within_i64)(const int64_t *, size_t, int64_t, int64_t, uint64_t *) noexcept nogil
        void (*member_u8)(const uint8_t *, size_t, mk_set, uint64_t *) noexcept nogil
        void (*member_u16)(const uint16_t *, size_t, mk_set, uint64_t *) noexcept nogil
        void (*member_u32)(const uint32_t *, size_t, mk_set, uint64_t *) noexcept nogil
        void (*near)(const int32_t *, const int32_t *, size_t, const mk_circle *, uint64_t *, uint64_t *) noexcept nogil
    const mk_variant *mk_variants[]
    void mk_hash_texts(const mk_texts *, uint16_t *) noexcept
    int mk_second_ids_where(const mk_ids *, size_t, const mk_texts *, const uint64_t *, uint64_t *) noexcept
    void mk_mark_below(const uint32_t *, size_t, uint8_t *) noexcept


def _variants_of_this_cpu():
    found = {}
    cdef int i = 0
    while mk_variants[i] != NULL:
        if mk_variants[i].runs_here():
            found[mk_variants[i].name.decode()] = i
        i += 1
    return found


# name -> index in the table of C, slowest first
VARIANTS = _variants_of_this_cpu()

ctypedef fused number:
    uint8_t
    uint16_t
    uint32_t

ctypedef fused value:
    double
    int64_t


def within(const value[::1] values, value lower, value upper, uint64_t[::1] out, int variant):
    cdef size_t n = values.shape[0]
    if n == 0:
        return
    with nogil:
        if value is double:
            mk_variants[variant].within_f64(&values[0], n, lower, upper, &out[0])
        else:
            mk_variants[variant].within_i64(&values[0], n, lower, upper, &out[0])


def members(
    const number[::1] numbers, const uint8_t[::1] table, const uint32_t[::1] wanted, uint64_t[::1] out, int variant
):
    """``wanted`` may be None: the table alone says it."""
    cdef size_t n = numbers.shape[0]
    cdef mk_set numbers_wanted
    if n == 0:
        return
    numbers_wanted.table = &table[0]
    numbers_wanted.size = table.shape[0]
    numbers_wanted.wanted = NULL
    numbers_wanted.count = 0
    if wanted is not None:
        numbers_wanted.wanted = &wanted[0]
        numbers_wanted.count = wanted.shape[0]
    with nogil:
        if number is uint8_t:
            mk_variants[variant].member_u8(&numbers[0], n, numbers_wanted, &out[0])
        elif number is uint16_t:
            mk_variants[variant].member_u16(&numbers[0], n, numbers_wanted, &out[0])
        else:
            mk_variants[variant].member_u32(&numbers[0], n, numbers_wanted, &out[0])


cdef int _set_box(mk_box *box, tuple latitudes, tuple longitudes) except -1:
    box.south, box.north = latitudes
    (box.west[0], box.east[0]), (box.west[1], box.east[1]) = longitudes
    return 0


def near(
    const int32_t[::1] lat,
    const int32_t[::1] lon,
    tuple outer,
    tuple inner,
    tuple point,
    tuple limits,
    uint64_t[::1] out,
    uint64_t[::1] unsure,
    int variant,
):
    cdef size_t n = lat.shape[0]
    cdef mk_circle circle
    if n == 0:
        return
    _set_box(&circle.outer, outer[0], outer[1])
    _set_box(&circle.inner, inner[0], inner[1])
    circle.lat, circle.lon, circle.cos_lat = point
    circle.limit, circle.margin = limits
    with nogil:
        mk_variants[variant].near(&lat[0], &lon[0], n, &circle, &out[0], &unsure[0])


def mark_below(const uint32_t[::1] parents, uint8_t[::1] marks):
    cdef size_t n = parents.shape[0]
    if n:
        with nogil:
            mk_mark_below(&parents[0], n, &marks[0])


cdef mk_texts _texts(const uint8_t[::1] data, const int64_t[::1] starts, const int64_t[::1] lengths) noexcept:
    cdef mk_texts texts
    texts.count = starts.shape[0]
    texts.data = &data[0] if data.shape[0] else NULL
    texts.starts = &starts[0] if texts.count else NULL
    texts.lengths = &lengths[0] if texts.count else NULL
    return texts


def hash_texts(const uint8_t[::1] data, const int64_t[::1] starts, const int64_t[::1] lengths, uint16_t[::1] out):
    cdef mk_texts texts = _texts(data, starts, lengths)
    if texts.count:
        with nogil:
            mk_hash_texts(&texts, &out[0])


def second_ids_where(
    const uint32_t[::1] words,
    const uint32_t[::1] offsets,
    const uint8_t[::1] data,
    const int64_t[::1] starts,
    const int64_t[::1] lengths,
    const uint64_t[::1] where,
    uint64_t[::1] out,
):
    cdef size_t n = offsets.shape[0]
    cdef int failed
    cdef mk_ids ids
    cdef mk_texts wanted = _texts(data, starts, lengths)
    if n == 0:
        return
    ids.words, ids.offsets = &words[0], &offsets[0]
    with nogil:
        failed = mk_second_ids_where(&ids, n, &wanted, &where[0], &out[0])
    if failed:
        raise MemoryError("no memory for a table of texts")
