# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The key table of C for NumPy arrays. Types, shapes and slots are checked by ``key_table.py``, which calls this."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "key_table.h" nogil:
    ctypedef struct kt_table:
        uint64_t used
    void kt_find(const kt_table *, const uint64_t *, const uint64_t *, size_t, int64_t *) noexcept
    size_t kt_put(kt_table *, const uint64_t *, const int64_t *, size_t, int64_t *) noexcept
    void kt_remove(kt_table *, const uint64_t *, const uint64_t *, size_t, int64_t *) noexcept
    size_t kt_bytes(const kt_table *) noexcept
    void kt_free(kt_table *) noexcept


cdef class Table:
    """The loops run without the GIL; a call that another call would disturb is refused rather than run."""

    cdef kt_table table
    cdef int readers
    cdef bint writing

    def __dealloc__(self):
        kt_free(&self.table)

    def __len__(self):
        return self.table.used

    @property
    def held_bytes(self):
        return kt_bytes(&self.table)

    cdef int _refuse_beside(self, bint others) except -1:
        if others:
            raise RuntimeError("a key table is used by another thread; callers must serialise its writes")
        return 0

    def find(self, const uint64_t[::1] keys, const uint64_t[::1] wanted, int64_t[::1] found):
        cdef size_t n = wanted.shape[0]
        self._refuse_beside(self.writing)
        if n == 0:
            return
        self.readers += 1
        with nogil:
            kt_find(&self.table, &keys[0], &wanted[0], n, &found[0])
        self.readers -= 1

    def put(self, const uint64_t[::1] keys, const int64_t[::1] slots, int64_t[::1] previous):
        cdef size_t n = slots.shape[0], done
        self._refuse_beside(self.writing or self.readers)
        if n == 0:
            return
        self.writing = True
        with nogil:
            done = kt_put(&self.table, &keys[0], &slots[0], n, &previous[0])
        self.writing = False
        if done < n:
            raise MemoryError(f"no memory for a larger key table; {done} of {n} keys were put")

    def remove(self, const uint64_t[::1] keys, const uint64_t[::1] wanted, int64_t[::1] found):
        cdef size_t n = wanted.shape[0]
        self._refuse_beside(self.writing or self.readers)
        if n == 0:
            return
        self.writing = True
        with nogil:
            kt_remove(&self.table, &keys[0], &wanted[0], n, &found[0])
        self.writing = False
