# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The conditions of C for NumPy arrays. Types and lengths are checked by ``masks.py``, which calls this."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "masks.h" nogil:
    ctypedef struct mk_set:
        const uint8_t *table
        uint32_t size
    ctypedef struct mk_circle:
        int32_t south
        int32_t north
        int32_t west[2]
        int32_t east[2]
        double lat
        double lon
        double cos_lat
        double limit
        double margin
    ctypedef struct mk_variant:
        const char *name
        int (*runs_here)() noexcept nogil
        void (*within_f64)(const double *, size_t, double, double, uint64_t *) noexcept nogil
        void (*within_i64)(const int64_t *, size_t, int64_t, int64_t, uint64_t *) noexcept nogil
        void (*member_u8)(const uint8_t *, size_t, mk_set, uint64_t *) noexcept nogil
        void (*member_u16)(const uint16_t *, size_t, mk_set, uint64_t *) noexcept nogil
        void (*member_u32)(const uint32_t *, size_t, mk_set, uint64_t *) noexcept nogil
        void (*near)(
            const int32_t *, const int32_t *, size_t, const mk_circle *, const uint64_t *, uint64_t *, uint64_t *
        ) noexcept nogil
    const mk_variant *mk_variants[]
    void mk_within_f64_where(const double *, size_t, double, double, const uint64_t *, uint64_t *) noexcept
    void mk_within_i64_where(const int64_t *, size_t, int64_t, int64_t, const uint64_t *, uint64_t *) noexcept
    void mk_hash_texts(const uint8_t *, const int64_t *, const int64_t *, size_t, uint8_t *) noexcept
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


def within_where(const value[::1] values, value lower, value upper, const uint64_t[::1] where, uint64_t[::1] out):
    cdef size_t n = values.shape[0]
    if n == 0:
        return
    with nogil:
        if value is double:
            mk_within_f64_where(&values[0], n, lower, upper, &where[0], &out[0])
        else:
            mk_within_i64_where(&values[0], n, lower, upper, &where[0], &out[0])


def members(const number[::1] numbers, const uint8_t[::1] table, uint64_t[::1] out, int variant):
    cdef size_t n = numbers.shape[0]
    cdef mk_set wanted
    if n == 0:
        return
    wanted.size = table.shape[0]
    wanted.table = &table[0] if wanted.size else NULL
    with nogil:
        if number is uint8_t:
            mk_variants[variant].member_u8(&numbers[0], n, wanted, &out[0])
        elif number is uint16_t:
            mk_variants[variant].member_u16(&numbers[0], n, wanted, &out[0])
        else:
            mk_variants[variant].member_u32(&numbers[0], n, wanted, &out[0])


def near(
    const int32_t[::1] lat,
    const int32_t[::1] lon,
    tuple latitudes,
    tuple longitudes,
    double point_lat,
    double point_lon,
    double cos_lat,
    double limit,
    double margin,
    const uint64_t[::1] where,
    uint64_t[::1] out,
    uint64_t[::1] unsure,
    int variant,
):
    cdef size_t n = lat.shape[0]
    cdef mk_circle circle
    cdef const uint64_t *among = &where[0] if where is not None and n else NULL
    if n == 0:
        return
    circle.south, circle.north = latitudes
    (circle.west[0], circle.east[0]), (circle.west[1], circle.east[1]) = longitudes
    circle.lat, circle.lon, circle.cos_lat = point_lat, point_lon, cos_lat
    circle.limit, circle.margin = limit, margin
    with nogil:
        mk_variants[variant].near(&lat[0], &lon[0], n, &circle, among, &out[0], &unsure[0])


def mark_below(const uint32_t[::1] parents, uint8_t[::1] marks):
    cdef size_t n = parents.shape[0]
    if n:
        with nogil:
            mk_mark_below(&parents[0], n, &marks[0])


def hash_texts(const uint8_t[::1] data, const int64_t[::1] starts, const int64_t[::1] lengths, uint8_t[::1] out):
    cdef size_t n = starts.shape[0]
    if n:
        with nogil:
            mk_hash_texts(&data[0] if data.shape[0] else NULL, &starts[0], &lengths[0], n, &out[0])
