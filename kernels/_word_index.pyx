# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The word index of C for NumPy arrays. Types, shapes and ranges are checked by ``word_index.py``, which calls this."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

cdef extern from "word_index.h" nogil:
    ctypedef struct wi_word:
        uint32_t start, length
    ctypedef struct wi_words:
        const uint8_t *bytes
        wi_word *words
        uint64_t used, seed
    ctypedef struct wi_collector:
        wi_words terms, pieces
        uint64_t entries, pieces_folded
    ctypedef struct wi_counts:
        uint64_t terms, term_bytes, postings
    ctypedef struct wi_run:
        const uint32_t *term_starts
        const uint32_t *posting_starts
        const uint32_t *postings
        const uint8_t *bytes
        size_t terms
    int wi_add(wi_collector *, const uint8_t *, const int64_t *, size_t) noexcept
    int64_t wi_fold(wi_collector *, const uint8_t *, size_t) noexcept
    int wi_count(wi_collector *, const uint32_t *, size_t, wi_counts *) noexcept
    void wi_write(wi_collector *, const uint32_t *, const uint32_t *, size_t, uint32_t *, uint8_t *, uint32_t *,
                  uint32_t *) noexcept
    size_t wi_bytes(const wi_collector *) noexcept
    void wi_clear(wi_collector *) noexcept
    void wi_find(const wi_run *, const uint8_t *, size_t, uint32_t *, uint32_t *) noexcept
    void wi_select(const uint32_t *, size_t, uint32_t, uint64_t *) noexcept
    int wi_match(const uint32_t *, const uint32_t *, size_t, const uint32_t *, size_t, uint64_t *, uint64_t *) noexcept
    void wi_own(const uint64_t *, size_t, uint64_t, int, uint8_t, uint8_t *, size_t) noexcept
    int wi_merge(const wi_run *, size_t, const uint8_t *, size_t, uint32_t *, uint8_t *, uint32_t *, uint32_t *,
                 wi_counts *) noexcept


cdef class Collector:
    """One thread at a time; the loops run without the GIL."""

    cdef wi_collector collector

    def __cinit__(self, uint64_t seed):
        self.collector.terms.seed = seed
        self.collector.pieces.seed = seed

    def __dealloc__(self):
        wi_clear(&self.collector)

    def __len__(self):
        return self.collector.entries

    @property
    def held_bytes(self):
        return wi_bytes(&self.collector)

    def clear(self):
        wi_clear(&self.collector)

    def add(self, const uint8_t[::1] data, const int64_t[::1] bounds):
        cdef size_t n = bounds.shape[0] - 1
        cdef const uint8_t *start = &data[0] if data.shape[0] else NULL
        cdef int failed
        with nogil:
            failed = wi_add(&self.collector, start, &bounds[0], n)
        if failed:
            raise MemoryError("no memory for the words of a batch")

    def unfolded(self):
        cdef wi_words *pieces = &self.collector.pieces
        cdef uint64_t i
        return [
            PyBytes_FromStringAndSize(<const char *>pieces.bytes + pieces.words[i].start, pieces.words[i].length)
            for i in range(self.collector.pieces_folded, pieces.used)
        ]

    def fold(self, const uint8_t[::1] lines):
        cdef size_t size = lines.shape[0]
        cdef int64_t folded
        with nogil:
            folded = wi_fold(&self.collector, &lines[0], size)
        if folded < 0:
            raise MemoryError("no memory for the words of a batch")
        return folded

    def count(self, const uint32_t[::1] entries):
        cdef size_t n = entries.shape[0]
        cdef const uint32_t *first = &entries[0] if n else NULL
        cdef wi_counts counts
        cdef int failed
        with nogil:
            failed = wi_count(&self.collector, first, n, &counts)
        if failed:
            raise MemoryError("no memory to bring words in order")
        return counts.terms, counts.term_bytes, counts.postings

    def write(self, const uint32_t[::1] entries, const uint32_t[::1] slots, uint32_t[::1] term_starts,
              uint8_t[::1] terms, uint32_t[::1] posting_starts, uint32_t[::1] postings):
        cdef size_t n = entries.shape[0]
        cdef const uint32_t *first_entry = &entries[0] if n else NULL
        cdef const uint32_t *first_slot = &slots[0] if n else NULL
        cdef uint8_t *first_term = &terms[0] if terms.shape[0] else NULL
        cdef uint32_t *first_posting = &postings[0] if postings.shape[0] else NULL
        with nogil:
            wi_write(&self.collector, first_entry, first_slot, n, &term_starts[0], first_term, &posting_starts[0],
                     first_posting)


cdef wi_run run_of(tuple sections):
    cdef const uint32_t[::1] term_starts = sections[0]
    cdef const uint8_t[::1] terms = sections[1]
    cdef const uint32_t[::1] posting_starts = sections[2]
    cdef const uint32_t[::1] postings = sections[3]
    cdef wi_run run
    run.term_starts = &term_starts[0]
    run.bytes = &terms[0] if terms.shape[0] else NULL
    run.posting_starts = &posting_starts[0]
    run.postings = &postings[0] if postings.shape[0] else NULL
    run.terms = term_starts.shape[0] - 1
    return run


def find(tuple sections, const uint8_t[::1] prefix):
    cdef wi_run run = run_of(sections)
    cdef size_t length = prefix.shape[0]
    cdef uint32_t first, last
    with nogil:
        wi_find(&run, &prefix[0], length, &first, &last)
    return first, last


def select(const uint32_t[::1] slots, uint32_t base, uint64_t[::1] bits):
    cdef size_t n = slots.shape[0]
    if n:
        with nogil:
            wi_select(&slots[0], n, base, &bits[0])


def match(const uint32_t[::1] postings, const uint32_t[::1] ranges, const uint32_t[::1] cover, uint64_t[::1] bits,
          uint64_t[::1] marks):
    cdef size_t words = ranges.shape[0] // 2, covered = cover.shape[0]
    cdef const uint32_t *first = &postings[0] if postings.shape[0] else NULL
    cdef int failed
    with nogil:
        failed = wi_match(first, &ranges[0], words, &cover[0], covered, &bits[0], &marks[0])
    if failed:
        raise MemoryError("no memory for the postings of a word")


def own(const uint64_t[::1] bits, uint64_t base, bint inverted, uint8_t owner, uint8_t[::1] owners):
    cdef size_t words = bits.shape[0], n = owners.shape[0]
    if words and n:
        with nogil:
            wi_own(&bits[0], words, base, inverted, owner, &owners[0], n)


def merge(list runs, const uint8_t[::1] owners, uint32_t[::1] term_starts, uint8_t[::1] terms,
          uint32_t[::1] posting_starts, uint32_t[::1] postings):
    cdef size_t count = len(runs), slots = owners.shape[0], i
    cdef const uint8_t *owner = &owners[0] if slots else NULL
    cdef uint8_t *first_term = &terms[0] if terms.shape[0] else NULL
    cdef uint32_t *first_posting = &postings[0] if postings.shape[0] else NULL
    cdef wi_counts counts
    cdef int failed
    cdef wi_run *opened = <wi_run *>malloc(count * sizeof(wi_run))
    if opened == NULL:
        raise MemoryError("no memory to merge words")
    try:
        for i in range(count):
            opened[i] = run_of(runs[i])
        with nogil:
            failed = wi_merge(opened, count, owner, slots, &term_starts[0], first_term, &posting_starts[0],
                              first_posting, &counts)
    finally:
        free(opened)
    if failed:
        raise MemoryError("no memory to merge words")
    return counts.terms, counts.term_bytes, counts.postings
