"""The CUDA source of what memory bounds on a device: one source for float32 and float64, by ``-DNUMBER=float|double``.

Arrays have their channels last: (images, cells, channels). Every kernel is there twice, for one number and for 16 bytes
a thread; counts of numbers are then counts of packs. Sums are taken in double, a block at a time, without atomics: the
same input gives the same bits. Each kernel's contract stands above it.
"""

from __future__ import annotations

WIDTH = 16
"""Bytes of a pack."""
THREADS = 256
"""Threads of a block; the sums over a block rely on it."""

_AXES = [f"{what}{axis}" for what in ("n", "p", "k", "s", "d", "b") for axis in range(3)]
_WINDOW = ", ".join(f"int {name}" for name in _AXES)
"""Size, positions, kernel, stride, dilation and padding before, of three axes; those that are not there have size 1."""

PARAMETERS = {
    "columns": "const P* x, P* out, long long image, unsigned place, unsigned count, int groups, int inputs, "
    "int by_tap, " + _WINDOW,
    "added_back": "const P* columns, P* out, unsigned images, int groups, int inputs, " + _WINDOW,
    "depthwise": "const P* x, const P* matrix, P* out, unsigned images, int channels, " + _WINDOW,
    "depthwise_back": "const P* s, const P* matrix, P* out, unsigned images, int channels, " + _WINDOW,
    "divide": "const P* R, const P* own, const P* given, const P* sign_of, const P* bias, P* s, unsigned char* marks, "
    "double* sums, unsigned images, unsigned numbers, unsigned channels, unsigned apart, int bias_map, int sign, "
    "int neither, int one_sign, double portion, double epsilon",
    "shared": "const P* R, const P* own, const P* given, const P* a, const P* b, P* of_a, P* of_b, double* sums, "
    "unsigned images, unsigned numbers, double epsilon",
    "finish": "const P* from, const P* x, const P* more, P* out, double* sums, unsigned images, unsigned numbers",
    "lift": "P* z, P* one, P* other, const P* bias, const P* bias_one, const P* bias_other, unsigned total, "
    "unsigned channels, int parts, int rectified, double gamma_one, double gamma_other",
    "maxima": "const P* a, P* z, unsigned images, int channels, " + _WINDOW,
    "routed": "const P* a, const P* z, const P* R, P* out, unsigned images, int channels, " + _WINDOW,
}
"""The parameters of each kernel, where P is a number or a pack."""

_HEAD = """
typedef NUMBER T;
typedef long long Big;
template <int N> struct alignas(N * sizeof(T)) Pack { T of[N]; };

struct Window { int n[3], p[3], k[3], s[3], d[3], b[3]; };

#define WINDOW {{n0, n1, n2}, {p0, p1, p2}, {k0, k1, k2}, {s0, s1, s2}, {d0, d1, d2}, {b0, b1, b2}}

/* The three coordinates of a place in an array of size n. */
__device__ inline void coordinates(unsigned place, const int* n, int* at)
{
    at[2] = place % n[2];
    place /= n[2];
    at[1] = place % n[1];
    at[0] = place / n[1];
}

/* The cell that position `at` reads with tap (i, j, l), counted through the image; -1 in the padding. */
__device__ inline Big cell(const Window& w, const int* at, int i, int j, int l)
{
    const int y = at[0] * w.s[0] - w.b[0] + i * w.d[0];
    const int x = at[1] * w.s[1] - w.b[1] + j * w.d[1];
    const int u = at[2] * w.s[2] - w.b[2] + l * w.d[2];
    if (y < 0 || y >= w.n[0] || x < 0 || x >= w.n[1] || u < 0 || u >= w.n[2])
        return -1;
    return ((Big)y * w.n[1] + x) * w.n[2] + u;
}

/* The position on one axis that reads cell y with tap t; -1 if there is none. */
__device__ inline int reader(const Window& w, int axis, int y, int t)
{
    const int from = y + w.b[axis] - t * w.d[axis];
    if (from < 0 || from % w.s[axis])
        return -1;
    const int p = from / w.s[axis];
    return p < w.p[axis] ? p : -1;
}

/* found(tap, cell) for each tap with which position `at` reads a cell, in order. */
template <class F> __device__ inline void taps_of(const Window& w, const int* at, const F& found)
{
    for (int i = 0, tap = 0; i < w.k[0]; i++)
        for (int j = 0; j < w.k[1]; j++)
            for (int l = 0; l < w.k[2]; l++, tap++) {
                const Big source = cell(w, at, i, j, l);
                if (source >= 0)
                    found(tap, source);
            }
}

/* found(tap, position) for each position that reads the cell `at`, in the order of the taps. */
template <class F> __device__ inline void readers_of(const Window& w, const int* at, const F& found)
{
    for (int i = 0; i < w.k[0]; i++) {
        const int q0 = reader(w, 0, at[0], i);
        if (q0 < 0)
            continue;
        for (int j = 0; j < w.k[1]; j++) {
            const int q1 = reader(w, 1, at[1], j);
            if (q1 < 0)
                continue;
            for (int l = 0; l < w.k[2]; l++) {
                const int q2 = reader(w, 2, at[2], l);
                if (q2 >= 0)
                    found((i * w.k[1] + j) * w.k[2] + l, ((Big)q0 * w.p[1] + q1) * w.p[2] + q2);
            }
        }
    }
}

template <int N> __device__ inline Pack<N> nothing()
{
    Pack<N> made;
    for (int v = 0; v < N; v++)
        made.of[v] = 0;
    return made;
}

/* The sums of the block's values, halved as often as it takes, each `apart` from the one before. */
template <int K> __device__ inline void summed_up(const double (&values)[K], double* into, Big apart)
{
    __shared__ double partial[K][THREADS];
    for (int k = 0; k < K; k++)
        partial[k][threadIdx.x] = values[k];
    __syncthreads();
    for (unsigned half = THREADS / 2; half; half /= 2) {
        if (threadIdx.x < half)
            for (int k = 0; k < K; k++)
                partial[k][threadIdx.x] += partial[k][threadIdx.x + half];
        __syncthreads();
    }
    if (!threadIdx.x)
        for (int k = 0; k < K; k++)
            into[k * apart] = partial[k][0];
    __syncthreads();
}
"""

_BODIES = {
    "columns": """
/* out (groups, count, taps, inputs): the cells under each tap of `count` positions, the first of which is `place` of
   `image`; 0 in the padding. x (images, cells, groups * inputs). With few inputs each tap has a thread of its own, so
   that neighbours write next to each other (`by_tap`). */
{
    const Window w = WINDOW;
    const unsigned places = (unsigned)p0 * p1 * p2, cells_a_row = (unsigned)groups * inputs;
    const Big cells = (Big)n0 * n1 * n2;
    if (by_tap) {
        const unsigned taps = (unsigned)k0 * k1 * k2;
        const Big all = (Big)groups * count * taps;
        for (Big i = (Big)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += (Big)gridDim.x * blockDim.x) {
            const unsigned tap = (unsigned)i % taps, rest = (unsigned)i / taps;
            const unsigned group = rest / count, within = place + rest % count;
            int at[3];
            coordinates(within % places, w.p, at);
            const unsigned j = tap / (unsigned)k2 % (unsigned)k1;
            const Big source = cell(w, at, tap / ((unsigned)k1 * k2), j, tap % (unsigned)k2);
            const P* from = x + ((image + within / places) * cells + source) * cells_a_row + group * inputs;
            P* into = out + i * inputs;
            for (int c = 0; c < inputs; c++)
                into[c] = source < 0 ? nothing<N>() : from[c];
        }
        return;
    }
    const Big total = (Big)groups * count * inputs;
    for (Big i = (Big)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (Big)gridDim.x * blockDim.x) {
        const unsigned c = (unsigned)i % (unsigned)inputs, rest = (unsigned)i / (unsigned)inputs;
        const unsigned row = rest % count, group = rest / count;
        const unsigned within = place + row;
        int at[3];
        coordinates(within % places, w.p, at);
        const P* from = x + (image + within / places) * cells * cells_a_row + group * inputs + c;
        P* into = out + (Big)rest * k0 * k1 * k2 * inputs + c;
        for (int t = 0; t < k0; t++)
            for (int j = 0; j < k1; j++)
                for (int l = 0; l < k2; l++) {
                    const Big source = cell(w, at, t, j, l);
                    *into = source < 0 ? nothing<N>() : from[source * cells_a_row];
                    into += inputs;
                }
    }
}
""",
    "added_back": """
/* out (images, cells, groups * inputs): for each cell the sum over the taps with which positions read it, in the order
   of the taps. columns (groups, images * positions, taps, inputs). */
{
    const Window w = WINDOW;
    const unsigned channels = (unsigned)groups * inputs, cells = (unsigned)n0 * n1 * n2;
    const unsigned places = (unsigned)p0 * p1 * p2, taps = (unsigned)k0 * k1 * k2;
    const unsigned numbers = cells * channels;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y)
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            const unsigned channel = i % channels, group = channel / inputs, c = channel % inputs;
            int at[3];
            coordinates(i / channels, w.n, at);
            const P* from = columns + ((Big)group * images + image) * places * taps * inputs + c;
            P sum = nothing<N>();
            readers_of(w, at, [&](int tap, Big row) {
                const P found = from[(row * taps + tap) * inputs];
                for (int v = 0; v < N; v++)
                    sum.of[v] += found.of[v];
            });
            out[(Big)image * numbers + i] = sum;
        }
}
""",
    "depthwise": """
/* out (images, positions, channels): each channel convolved with its own column of matrix (taps, channels). */
{
    const Window w = WINDOW;
    const unsigned numbers = (unsigned)p0 * p1 * p2 * channels;
    const Big cells = (Big)n0 * n1 * n2;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y)
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            const unsigned c = i % channels;
            int at[3];
            coordinates(i / channels, w.p, at);
            const P* from = x + (Big)image * cells * channels + c;
            const P* weight = matrix + c;
            P sum = nothing<N>();
            taps_of(w, at, [&](int tap, Big source) {
                const P found = from[source * channels], by = weight[(Big)tap * channels];
                for (int v = 0; v < N; v++)
                    sum.of[v] += found.of[v] * by.of[v];
            });
            out[(Big)image * numbers + i] = sum;
        }
}
""",
    "depthwise_back": """
/* The transpose: out (images, cells, channels) from s (images, positions, channels). */
{
    const Window w = WINDOW;
    const unsigned numbers = (unsigned)n0 * n1 * n2 * channels;
    const Big places = (Big)p0 * p1 * p2;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y)
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            const unsigned c = i % channels;
            int at[3];
            coordinates(i / channels, w.n, at);
            const P* from = s + (Big)image * places * channels + c;
            P sum = nothing<N>();
            readers_of(w, at, [&](int tap, Big row) {
                const P found = from[row * channels], by = matrix[(Big)tap * channels + c];
                for (int v = 0; v < N; v++)
                    sum.of[v] += found.of[v] * by.of[v];
            });
            out[(Big)image * numbers + i] = sum;
        }
}
""",
    "divide": """
/* s = portion R / (own + e), 0 where that divides by 0; R, own, given, sign_of (images, numbers). e is `given`, or
   epsilon with the sign of own, + for 0. sign 1 or -1: all of R where sign_of has it, nothing elsewhere; neither: R
   where sign_of is 0 counts with what divided by 0. s has rows of `channels` numbers that lie `apart` from each other,
   and may be R. bias: a number a channel, or (bias_map) `numbers`.
   sums (5, images, blocks): s e, s bias, what divided by 0, how often that was a pole, how many parts are empty. marks
   (images, numbers, numbers of a pack): what was counted before is not counted again: 1 a pole, 2 an empty part. */
{
    const T eps = (T)epsilon, part = (T)portion;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y) {
        const Big start = (Big)image * numbers;
        double by_e = 0, by_bias = 0, unclaimed = 0, poles = 0, empty = 0;
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            const P came = R[start + i], z = own[start + i];
            P e = nothing<N>(), sign_z = nothing<N>(), b = nothing<N>(), made;
            if (given)
                e = given[start + i];
            if (sign)
                sign_z = sign_of[start + i];
            if (bias)
                b = bias[bias_map ? i : i % channels];
            for (int v = 0; v < N; v++) {
                T dealt = part * came.of[v];
                if (sign)
                {
                    if (neither && sign_z.of[v] == 0)
                        unclaimed += (double)came.of[v];
                    dealt = sign > 0 ? (sign_z.of[v] > 0 ? came.of[v] : (T)0) : (sign_z.of[v] < 0 ? came.of[v] : (T)0);
                }
                const T by = given ? e.of[v] : (z.of[v] < 0 ? -eps : eps);
                const T d = z.of[v] + by;
                unsigned char found = 0;
                T quotient = 0;
                if (d == 0) {
                    unclaimed += (double)dealt;
                    if (dealt != 0 && !(one_sign && z.of[v] == 0))
                        found = 1;
                } else
                    quotient = dealt / d;
                if (one_sign && z.of[v] == 0 && dealt != 0)
                    found |= 2;
                if (marks) {
                    const Big at = (start + i) * N + v;
                    const unsigned char before = marks[at];
                    if (found)
                        marks[at] = before | found;
                    found &= ~before;
                }
                poles += found & 1;
                empty += found >> 1;
                by_e += (double)quotient * (double)by;
                by_bias += (double)quotient * (double)b.of[v];
                made.of[v] = quotient;
            }
            if (apart == channels)
                s[start + i] = made;
            else
                s[((Big)image * (numbers / channels) + i / channels) * apart + i % channels] = made;
        }
        double* into = sums + (Big)image * gridDim.x + blockIdx.x;
        const Big next = (Big)images * gridDim.x;
        if (given || epsilon == 0 || neither || one_sign) {
            const double all[] = {by_e, by_bias, unclaimed, poles, empty};
            summed_up(all, into, next);
        } else { /* the others are 0 and not read */
            const double two[] = {by_e, by_bias};
            summed_up(two, into, next);
        }
    }
}
""",
    "shared": """
/* A sum of two: s = R / (own + e) as in divide, of_a = a s and of_b = b s; all (images, numbers), and of_a may be R.
   sums (7, images, blocks): s e, what divided by 0, how often that was; of_a and of_b with their magnitudes. */
{
    const T eps = (T)epsilon;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y) {
        const Big start = (Big)image * numbers;
        double all[7] = {0, 0, 0, 0, 0, 0, 0};
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            const P came = R[start + i], z = own[start + i];
            P one = a[start + i], other = b[start + i], e = nothing<N>();
            if (given)
                e = given[start + i];
            for (int v = 0; v < N; v++) {
                const T by = given ? e.of[v] : (z.of[v] < 0 ? -eps : eps);
                const T d = z.of[v] + by;
                T quotient = 0;
                if (d == 0) {
                    all[1] += (double)came.of[v];
                    all[2] += came.of[v] != 0;
                } else
                    quotient = came.of[v] / d;
                all[0] += (double)quotient * (double)by;
                one.of[v] *= quotient;
                other.of[v] *= quotient;
                all[3] += (double)one.of[v];
                all[4] += one.of[v] < 0 ? -(double)one.of[v] : (double)one.of[v];
                all[5] += (double)other.of[v];
                all[6] += other.of[v] < 0 ? -(double)other.of[v] : (double)other.of[v];
            }
            of_a[start + i] = one;
            of_b[start + i] = other;
        }
        summed_up(all, sums + (Big)image * gridDim.x + blockIdx.x, (Big)images * gridDim.x);
    }
}
""",
    "finish": """
/* out = from x + more (null: 1 and 0), and sums (2, images, blocks): of the results and of their magnitudes. Without
   out only these. All are (images, numbers), and out may be any of the others. */
{
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y) {
        const Big start = (Big)image * numbers;
        double sum = 0, magnitude = 0;
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            P value = from[start + i];
            if (x) {
                const P by = x[start + i];
                for (int v = 0; v < N; v++)
                    value.of[v] *= by.of[v];
            }
            if (more) {
                const P other = more[start + i];
                for (int v = 0; v < N; v++)
                    value.of[v] += other.of[v];
            }
            if (out)
                out[start + i] = value;
            for (int v = 0; v < N; v++) {
                sum += (double)value.of[v];
                magnitude += value.of[v] < 0 ? -(double)value.of[v] : (double)value.of[v];
            }
        }
        double* into = sums + (Big)image * gridDim.x + blockIdx.x;
        const double both[] = {sum, magnitude};
        summed_up(both, into, (Big)images * gridDim.x);
    }
}
""",
    "lift": """
/* The end of a product, in rows of `channels` numbers, `total` in all: z and what rode along (one, other; may be null)
   get their biases, a number a channel (null: 0). With `parts`, `one` and `other` are the two signs of weights: z
   becomes their sum, and each with a gamma >= 0 becomes gamma times itself plus z. rectified: at the end z is at
   least 0. What does not change is not written. */
{
    const bool one_changes = bias_one || (parts && gamma_one >= 0);
    const bool other_changes = bias_other || (parts && gamma_other >= 0);
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
        const unsigned c = i % channels;
        P a = one ? one[i] : nothing<N>(), b = other ? other[i] : nothing<N>();
        P whole = parts ? nothing<N>() : z[i];
        for (int v = 0; v < N; v++) {
            if (parts) {
                whole.of[v] = a.of[v] + b.of[v];
                if (gamma_one >= 0)
                    a.of[v] = (T)gamma_one * a.of[v] + whole.of[v];
                if (gamma_other >= 0)
                    b.of[v] = (T)gamma_other * b.of[v] + whole.of[v];
            }
            if (bias)
                whole.of[v] += bias[c].of[v];
            if (bias_one)
                a.of[v] += bias_one[c].of[v];
            if (bias_other)
                b.of[v] += bias_other[c].of[v];
            if (rectified && whole.of[v] < 0)
                whole.of[v] = 0;
        }
        if (parts || bias || rectified)
            z[i] = whole;
        if (one_changes)
            one[i] = a;
        if (other_changes)
            other[i] = b;
    }
}
""",
    "maxima": """
/* z (images, positions, channels): the greatest of the cells of a (images, cells, channels) under each window. */
{
    const Window w = WINDOW;
    const unsigned numbers = (unsigned)p0 * p1 * p2 * channels;
    const Big cells = (Big)n0 * n1 * n2;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y)
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            int at[3];
            coordinates(i / channels, w.p, at);
            const P* from = a + (Big)image * cells * channels + i % channels;
            P best = nothing<N>();
            bool any = false;
            taps_of(w, at, [&](int, Big source) {
                const P found = from[source * channels];
                for (int v = 0; v < N; v++)
                    if (!any || found.of[v] > best.of[v])
                        best.of[v] = found.of[v];
                any = true;
            });
            z[(Big)image * numbers + i] = best;
        }
}
""",
    "routed": """
/* out (images, cells, channels): the sum of R (images, positions, channels) over the windows in which a cell is the
   first that has the window's maximum z. */
{
    const Window w = WINDOW;
    const unsigned numbers = (unsigned)n0 * n1 * n2 * channels;
    const Big cells = (Big)n0 * n1 * n2, places = (Big)p0 * p1 * p2;
    for (unsigned image = blockIdx.y; image < images; image += gridDim.y)
        for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < numbers; i += gridDim.x * blockDim.x) {
            const unsigned c = i % channels;
            int at[3];
            coordinates(i / channels, w.n, at);
            const P* from = a + (Big)image * cells * channels + c;
            const P own = a[(Big)image * numbers + i];
            P sum = nothing<N>();
            readers_of(w, at, [&](int tap, Big row) {
                int position[3];
                coordinates((unsigned)row, w.p, position);
                const Big place = ((Big)image * places + row) * channels + c;
                const P greatest = z[place];
                bool wins[N], one = false;
                for (int v = 0; v < N; v++) {
                    wins[v] = own.of[v] == greatest.of[v];
                    one = one || wins[v];
                }
                if (!one)
                    return;
                for (int before = 0; before < tap; before++) {
                    const Big source = cell(w, position, before / (k1 * k2), before / k2 % k1, before % k2);
                    if (source < 0)
                        continue;
                    const P other = from[source * channels];
                    for (int v = 0; v < N; v++)
                        wins[v] = wins[v] && other.of[v] != greatest.of[v];
                }
                const P came = R[place];
                for (int v = 0; v < N; v++)
                    if (wins[v])
                        sum.of[v] += came.of[v];
            });
            out[(Big)image * numbers + i] = sum;
        }
}
""",
}


def names(parameters: str) -> str:
    """The names alone of "type name, type name"."""
    return ", ".join(parameter.split()[-1] for parameter in parameters.split(", "))


def kernel_name(name: str, *, packed: bool) -> str:
    """What the source calls the form for one number, or for a pack, a thread."""
    return f"{name}_packed" if packed else f"{name}_single"


def signature(name: str, *, packed: bool) -> str:
    """The parameters of a kernel as the source has them."""
    return PARAMETERS[name].replace("P*", "Pack<WIDE>*" if packed else "Pack<1>*")


def source() -> str:
    """The whole source, for one NUMBER."""
    parts = [f"#define WIDE ({WIDTH} / (int)sizeof(T))\n#define THREADS {THREADS}\n", _HEAD]
    for name, body in _BODIES.items():
        contract, rest = body.split("*/", 1)
        typed = PARAMETERS[name].replace("P*", "Pack<N>*")
        inside = rest.replace("{", "{\n    typedef Pack<N> P;", 1)
        parts.append(f"{contract}*/\ntemplate <int N> __device__ inline void {name}({typed}){inside}")
        for packed in (False, True):
            call = f"{name}<{'WIDE' if packed else '1'}>({names(PARAMETERS[name])})"
            whole = f"{kernel_name(name, packed=packed)}({signature(name, packed=packed)})"
            parts.append(f'extern "C" __global__ void {whole}\n{{\n    {call};\n}}\n')
    return "\n".join(parts)
