// What the launcher needs to know of the machine it runs on.

import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { LaunchError } from './report.mjs';

/** The checkout's folder. */
export const projectFolder = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

/** The path of `coordinator` or `worker` in a checkout. */
export function commandIn(folder, name) {
  return `${folder}/node_modules/.bin/${name}`;
}

/** Throws LaunchError where set-up has not run. */
export function checkBuilt() {
  try {
    for (const name of ['coordinator', 'worker']) accessSync(commandIn(projectFolder, name), constants.X_OK);
  } catch {
    throw new LaunchError('the commands are not built yet: npm run setup');
  }
}

/** NVIDIA GPUs of this machine; 0 without a driver. */
export function gpuCount() {
  try {
    const listing = execFileSync('nvidia-smi', ['--list-gpus'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return listing.split('\n').filter((line) => line.startsWith('GPU ')).length;
  } catch {
    return 0;
  }
}

/** A port of this address that nobody listens at; throws LaunchError where the address is not this machine's. */
export function freePort(host) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => {
      reject(new LaunchError(`cannot listen at ${host} (${error.code}): is it an address of this machine?`));
    });
    server.listen(0, host, () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
