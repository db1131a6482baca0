# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The C searches for NumPy arrays. Shapes and types are checked by ``hamming.py``, which calls this."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

cdef extern from "hamming.h" nogil:
    ctypedef struct hm_variant:
        const char *name
        int (*runs_here)() noexcept nogil
        uint64_t (*population)(const uint64_t *, size_t) noexcept nogil
    const hm_variant *hm_variants[]
    ctypedef struct hm_codes:
        const uint64_t *short_codes
        const uint64_t *long_codes
        const uint64_t *keys
        const uint64_t *allowed
        size_t n
        int short_words
        int long_words
    ctypedef struct hm_query:
        const uint64_t *short_code
        const uint64_t *long_code
        const uint64_t *word_weights
        uint64_t count
        uint64_t candidates
    ctypedef struct hm_found:
        size_t rows
        int64_t *row
        uint16_t *short_distance
        uint32_t *long_distance
        int64_t histogram[257]
    int hm_two_phase(const hm_variant *, const hm_codes *, const hm_query *, size_t, int, hm_found *)
    int hm_candidates(const hm_variant *, const hm_codes *, const hm_query *, size_t, int, hm_found *)
    int hm_exhaustive(const hm_variant *, const hm_codes *, const hm_query *, size_t, int, hm_found *)
    void hm_found_free(hm_found *, size_t)

ctypedef int (*search_function)(const hm_variant *, const hm_codes *, const hm_query *, size_t, int, hm_found *) noexcept nogil


def _variants_of_this_cpu():
    found = {}
    cdef int i = 0
    while hm_variants[i] != NULL:
        if hm_variants[i].runs_here():
            found[hm_variants[i].name.decode()] = i
        i += 1
    return found


# name -> index in the table of C, slowest first
VARIANTS = _variants_of_this_cpu()


def population(const uint64_t[:, ::1] rows, int variant):
    """Count the bits that are set. It reads every word once, so it is the floor of a scan in benchmarks."""
    cdef size_t words = rows.shape[0] * rows.shape[1]
    cdef uint64_t bits = 0
    if words:
        with nogil:
            bits = hm_variants[variant].population(&rows[0, 0], words)
    return bits


_INT64, _UINT16, _UINT32, _UINT8 = np.dtype(np.int64), np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.uint8)
_empty = np.empty


cdef object _copy(const void *source, size_t size, object dtype):
    """A new array of ``size`` bytes."""
    out = _empty(size, _UINT8)
    cdef unsigned char[::1] target = out
    if size:
        memcpy(&target[0], source, size)
    return out.view(dtype)


cdef int _fill(hm_query *to, object query, tuple component_words, uint64_t *weights) except -1:
    """Point at one query's codes, which do not move while the query lives, and repeat its weights per word."""
    cdef const uint64_t[::1] short = query.short
    cdef const uint64_t[::1] long = query.long
    cdef int word = 0
    cdef uint64_t weight
    to.short_code = &short[0]
    to.long_code = &long[0]
    to.word_weights = weights
    to.count = query.count
    to.candidates = query.candidates
    for component, words in enumerate(component_words):
        weight = query.weights[component]
        for word in range(word, word + <int>words):
            weights[word] = weight
        word += 1
    return 0


def search(
    str kind,
    tuple queries,
    const uint64_t[:, ::1] shorts,
    const uint64_t[:, ::1] longs,
    const uint64_t[::1] keys,
    tuple component_words,
    const uint64_t[::1] allowed,
    int threads,
    int variant,
):
    """Search for all queries; per query a tuple of (rows, short distances, long distances, histogram).

    After a scan the interpreter's own memory has left the cache, so that each step in Python costs several times what
    it costs in a loop of its own: queries are read in place, with few calls of NumPy.
    """
    cdef size_t i, query_count = len(queries)
    cdef int failed, bits = 64 * shorts.shape[1], long_words = longs.shape[1]
    cdef hm_codes codes
    cdef search_function function = (
        hm_two_phase if kind == "two_phase" else hm_candidates if kind == "candidates" else hm_exhaustive
    )
    codes.n = shorts.shape[0]
    codes.short_words = shorts.shape[1]
    codes.long_words = long_words
    codes.short_codes = &shorts[0, 0] if codes.n else NULL
    codes.long_codes = &longs[0, 0] if codes.n else NULL
    codes.keys = &keys[0] if codes.n else NULL
    codes.allowed = &allowed[0] if allowed is not None and codes.n else NULL
    cdef hm_query *c_queries = <hm_query *>calloc(query_count + 1, sizeof(hm_query))
    cdef uint64_t *weights = <uint64_t *>calloc(query_count * long_words + 1, sizeof(uint64_t))
    cdef hm_found *found = <hm_found *>calloc(query_count + 1, sizeof(hm_found))
    try:
        if c_queries == NULL or weights == NULL or found == NULL:
            raise MemoryError
        for i in range(query_count):
            _fill(&c_queries[i], queries[i], component_words, weights + i * long_words)
        with nogil:
            failed = function(hm_variants[variant], &codes, c_queries, query_count, threads, found)
        if failed:
            raise MemoryError("no memory for the candidates of this search")
        return [
            (
                _copy(found[i].row, found[i].rows * sizeof(int64_t), _INT64),
                _copy(found[i].short_distance, found[i].rows * sizeof(uint16_t), _UINT16),
                _copy(found[i].long_distance, found[i].rows * sizeof(uint32_t), _UINT32),
                _copy(found[i].histogram, (bits + 1) * sizeof(int64_t), _INT64),
            )
            for i in range(query_count)
        ]
    finally:
        if found != NULL:
            hm_found_free(found, query_count)
        free(found)
        free(weights)
        free(c_queries)
