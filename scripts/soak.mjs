// `npm run soak -- --minutes 20 --seed 7`: runs of a small network with faults drawn from the seed, until the time is up (test/soak).

import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '20' }, seed: { type: 'string', default: '1' } } });
if (!(Number(values.minutes) > 0) || !/^\d+$/.test(values.seed)) {
  console.error('soak: --minutes takes a number above 0, --seed a whole number');
  process.exit(2);
}
const env = { ...process.env, CROSSTOWER_SOAK_MINUTES: values.minutes, CROSSTOWER_SOAK_SEED: values.seed };
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'soak'], { stdio: 'inherit', env });
process.exit(status ?? 1);
