// `soak` (`npm run soak`) is there only when it is asked for. Beside it, two projects. `fast` runs the sources themselves: units, properties, contracts, golden numbers; seconds. `processes` starts
// the real commands out of dist/ and compares whole runs; minutes. `npm test` runs both, `npm run check` the fast one.
import { defineConfig } from 'vitest/config';

const slow = ['test/processes/**/*.test.ts', 'test/equivalence/**/*.test.ts'];
const soak = 'test/soak/**/*.test.ts';

export default defineConfig({
  test: {
    pool: 'forks', // The binding of tfjs-node cannot be loaded twice into one process, as threads would.
    env: { TF_CPP_MIN_LOG_LEVEL: '2', TF_NUM_INTRAOP_THREADS: '1', TF_NUM_INTEROP_THREADS: '1' },
    projects: [
      {
        extends: true,
        test: {
          name: 'fast',
          include: ['test/**/*.test.{ts,mjs}'],
          exclude: [...slow, soak],
          testTimeout: 20_000,
          maxWorkers: 2, // Each fork that loads TensorFlow takes half a gigabyte and a core.
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'processes',
          include: slow,
          testTimeout: 120_000,
          hookTimeout: 60_000,
          maxWorkers: 1, // Each test starts several processes and has deadlines to keep.
          sequence: { groupOrder: 1 },
        },
      },
      ...(process.env['CROSSTOWER_SOAK_MINUTES'] === undefined
        ? []
        : [{ extends: true as const, test: { name: 'soak', include: [soak], sequence: { groupOrder: 2 } } }]),
    ],
  },
});
