// `npm run quickstart`: from a fresh checkout to a trained network. Sets up, then runs the same command that a user would type.
// Arguments go on to that command: `npm run quickstart -- --epochs 1`.

import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

const setup = spawnSync(process.execPath, [at('setup.mjs')], { stdio: 'inherit' });
if (setup.status !== 0) process.exit(setup.status ?? 1);

console.log('\nnpx coordinator start --local cpu --config scripts/quickstart.yaml');
const args = ['start', '--local', 'cpu', '--config', at('quickstart.yaml'), ...process.argv.slice(2)];
const run = spawn(process.execPath, [at('../dist/src/coordinator/cli.js'), ...args], { stdio: 'inherit' });
// Ctrl-C reaches the coordinator by itself; this process waits for it to stop in good order.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => run.kill('SIGTERM'));
run.on('exit', (code) => process.exit(code ?? 1));
