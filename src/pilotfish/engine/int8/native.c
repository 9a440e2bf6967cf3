/* Pointwise halves of an int8 layer: to int8 before the integer product, back to fp32 after it.
 *
 * Built by native.py with the compiler of the machine. plain.py says the same in torch; without
 * activation or exponential both give the same bits, so products are never contracted here, and
 * fused multiply-adds stand only where they are written. Every row is worked on by itself and in
 * one order, so no bit depends on the other rows, on threads or on the width of the vectors.
 */
#include <math.h>
#include <stdint.h>

#define LANES 16
#define GROUP 64 /* columns that a rotation mixes, at most */
#define ROWS _Pragma("omp parallel for num_threads((int)threads) if (threads > 1)") \
    for (int64_t i = 0; i < m; i++)
#define EACH _Pragma("omp simd")

static const float SMALLEST = 1e-30f; /* below this a row counts as zero: 127 / it stays finite */

static inline float from_bits(int32_t bits) {
    union { int32_t bits; float value; } pun = { bits };
    return pun.value;
}

static inline int32_t magnitude(float value) { /* bits of |value|: ordered as the values are */
    union { float value; int32_t bits; } pun = { value };
    return pun.bits & 0x7fffffff;
}

/* e^x within 2 units in the last place between -87 and 88, clamped outside; nan stays nan. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = fmaf(1.9875691500e-4f, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(p * r, r, r) + 1.0f;
    return p * from_bits(((int32_t)n + 127) << 23);
}

static inline float gelu_tanh(float x) { /* x sigmoid(2u) = x (1 + tanh(u)) / 2 */
    return x / (1.0f + exponential(-x * fmaf(0.0713548162726f * x, x, 1.59576912160573f)));
}

static inline float gelu(float x) { /* erf by Abramowitz and Stegun 7.1.26, within 1.5e-7 */
    float a = fabsf(x) * 0.70710678f, t = 1.0f / fmaf(0.3275911f, a, 1.0f);
    float p = fmaf(1.061405429f, t, -1.453152027f);
    p = fmaf(p, t, 1.421413741f);
    p = fmaf(p, t, -0.284496736f);
    p = fmaf(p, t, 0.254829592f);
    float half = 0.5f * p * t * exponential(-a * a);
    return x < 0.0f ? x * half : x - x * half;
}

static inline float silu(float x) { return x / (1.0f + exponential(-x)); }

static inline float relu(float x) { return x < 0.0f ? 0.0f : x; }

static inline float restored(int32_t sum, float row, float column, float bias) {
    return (float)sum * (row * column) + bias;
}

/* One row to int8. Not finite: zeros and a nan scale, which makes every later number nan. */
static inline void narrow(const float *x, int8_t *q, float *scale, int64_t k) {
    int32_t most = 0;
    _Pragma("omp simd reduction(max : most)")
    for (int64_t j = 0; j < k; j++) {
        int32_t here = magnitude(x[j]);
        most = here > most ? here : most;
    }
    int finite = most < 0x7f800000;
    float widest = from_bits(most);
    widest = widest < SMALLEST ? SMALLEST : widest;
    float steps = 127.0f / widest;
    *scale = finite ? widest / 127.0f : NAN;
    if (finite) {
        EACH for (int64_t j = 0; j < k; j++) q[j] = (int8_t)(int32_t)rintf(x[j] * steps);
    } else {
        EACH for (int64_t j = 0; j < k; j++) q[j] = 0;
    }
}

/* One row mixed in place, groups of 4, 16 or 64 columns by the matrix of Hadamard: see plain.py. */
static inline void rotate(float *x, int64_t k) {
    int64_t part = k;
    for (int block = 1; block < GROUP && part % 4 == 0; block *= 4) {
        part /= 4;
        for (float *a = x; a < x + k; a += 4 * part) {
            float *b = a + part, *c = b + part, *d = c + part;
            EACH for (int64_t j = 0; j < part; j++) {
                float ab = a[j] + b[j], a_b = a[j] - b[j], cd = c[j] + d[j], c_d = c[j] - d[j];
                a[j] = ab + cd;
                b[j] = a_b + c_d;
                c[j] = ab - cd;
                d[j] = a_b - c_d;
            }
        }
    }
}

/* x [m, k] fp32, its columns times balance [k] -> q [m, k] int8, scale [m]. */
void quantise(const float *restrict x, const float *restrict balance, int8_t *restrict q,
              float *restrict scale, int64_t m, int64_t k, int64_t threads) {
    ROWS {
        const float *from = x + i * k;
        float wide[k];
        EACH for (int64_t j = 0; j < k; j++) wide[j] = from[j] * balance[j];
        narrow(wide, q + i * k, scale + i, k);
    }
}

/* sums [m, n] int32 of rows with scale [m] and columns with scale [n], bias [n] -> y [m, n]. */
void rescale(const int32_t *restrict sums, const float *restrict row, const float *restrict column,
             const float *restrict bias, float *restrict y, int64_t m, int64_t n, int64_t threads) {
    ROWS {
        const int32_t *from = sums + i * n;
        float *to = y + i * n, scale = row[i];
        EACH for (int64_t j = 0; j < n; j++) to[j] = restored(from[j], scale, column[j], bias[j]);
    }
}

#define ACTIVATED(act) \
    EACH for (int64_t j = 0; j < n; j++) \
        wide[j] = act(restored(from[j], scale, column[j], bias[j])) * balance[j]; \
    break;

#define GATED(act) \
    EACH for (int64_t j = 0; j < n; j++) \
        wide[j] = act(restored(from[j], scale, column[j], bias[j])) \
            * restored(from[n + j], scale, column[n + j], bias[n + j]) * balance[j]; \
    break;

/* sums [m, n] -> act(rescaled) * balance, rotated, as q [m, n] int8 with its own scale [m]. */
void activate(const int32_t *restrict sums, const float *restrict row,
              const float *restrict column, const float *restrict bias, int64_t kind,
              const float *restrict balance, int8_t *restrict q, float *restrict out, int64_t m,
              int64_t n, int64_t threads) {
    ROWS {
        const int32_t *from = sums + i * n;
        float wide[n], scale = row[i];
        switch (kind) {
        case 0: ACTIVATED(gelu_tanh)
        case 1: ACTIVATED(gelu)
        case 2: ACTIVATED(silu)
        default: ACTIVATED(relu)
        }
        rotate(wide, n);
        narrow(wide, q + i * n, out + i, n);
    }
}

/* sums [m, 2n], gate then value -> act(gate) * value * balance, rotated, as q [m, n], scale [m]. */
void gate(const int32_t *restrict sums, const float *restrict row, const float *restrict column,
          const float *restrict bias, int64_t kind, const float *restrict balance,
          int8_t *restrict q, float *restrict out, int64_t m, int64_t n, int64_t threads) {
    ROWS {
        const int32_t *from = sums + i * 2 * n;
        float wide[n], scale = row[i];
        switch (kind) {
        case 0: GATED(gelu_tanh)
        case 1: GATED(gelu)
        case 2: GATED(silu)
        default: GATED(relu)
        }
        rotate(wide, n);
        narrow(wide, q + i * n, out + i, n);
    }
}

/* A tile of logits joins running sums: top [m] the largest so far, total [m] of e^(logit - top). */
void accumulate(const int32_t *restrict sums, const float *restrict row,
                const float *restrict column, const float *restrict bias, float *restrict top,
                float *restrict total, int64_t m, int64_t n, int64_t threads) {
    int64_t whole = n - n % LANES;
    ROWS {
        const int32_t *from = sums + i * n;
        float scale = row[i], most = top[i], lanes[LANES] = { 0.0f }, sum = 0.0f;
        _Pragma("omp simd reduction(max : most)")
        for (int64_t j = 0; j < n; j++) {
            float logit = restored(from[j], scale, column[j], bias[j]);
            most = logit > most ? logit : most;
        }
        for (int64_t j = 0; j < whole; j += LANES) {
            EACH for (int l = 0; l < LANES; l++)
                lanes[l] += exponential(
                    restored(from[j + l], scale, column[j + l], bias[j + l]) - most);
        }
        for (int64_t j = whole; j < n; j++)
            lanes[j - whole] += exponential(restored(from[j], scale, column[j], bias[j]) - most);
        for (int l = 0; l < LANES; l++) sum += lanes[l];
        total[i] = total[i] * exponential(top[i] - most) + sum;
        top[i] = most;
    }
}
