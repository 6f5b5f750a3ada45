/* Nothing but fused multiply-adds on registers: what one core can do at most.
 *
 * Twelve sums do not wait for each other: enough for two units that take up to six cycles, and with factor and
 * term few enough for the sixteen registers of AVX2. */

#if defined(__AVX512F__)
enum { BYTES = 64 };
#elif defined(__AVX__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif

typedef float vector __attribute__((vector_size(BYTES)));

enum { SUMS = 12, LANES = BYTES / 4 };

/* Multiply-adds of one turn of the loop. */
int multiply_adds_per_turn(void) { return SUMS * LANES; }

/* Bytes of the registers in use. */
int register_bytes(void) { return BYTES; }

/* The sums themselves are returned so that no compiler can leave the work out. */
float run(long turns, float factor, float term) {
  vector sums[SUMS], a, b, total;
  for (int lane = 0; lane < LANES; ++lane) {
    a[lane] = factor;
    b[lane] = term;
    for (int i = 0; i < SUMS; ++i) sums[i][lane] = (float)i;
  }
  for (long turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; ++i) sums[i] = sums[i] * a + b;
  }
  total = sums[0];
  for (int i = 1; i < SUMS; ++i) total += sums[i];
  return total[0];
}
