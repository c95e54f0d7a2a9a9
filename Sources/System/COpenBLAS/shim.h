#include <cblas.h>
#include <stddef.h>

/* LAPACK is part of OpenBLAS; Debian ships no header for its Fortran names. The last two arguments are the lengths of the
   first two, as Fortran compilers pass them. */
void dsyevd_(const char *jobz, const char *uplo, const blasint *n, double *a, const blasint *lda, double *w, double *work,
             const blasint *lwork, blasint *iwork, const blasint *liwork, blasint *info, size_t jobz_length, size_t uplo_length);

/* Eigenvalues (ascending) and, where `job` is 'V' and not 'N', eigenvectors (columns, over `a`, which is destroyed otherwise) of a
   symmetric column-major n x n matrix given by its upper triangle. */
static inline blasint symmetric_eigen(char job, blasint n, double *a, double *w, double *work, blasint lwork, blasint *iwork, blasint liwork) {
    blasint info = 0;
    dsyevd_(&job, "U", &n, a, &n, w, work, &lwork, iwork, &liwork, &info, 1, 1);
    return info;
}
