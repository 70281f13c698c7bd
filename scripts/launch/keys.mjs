// Who may join: a folder of keys as `coordinator keygen` writes it, or --insecure, or neither where nothing leaves this machine.

import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { LaunchError } from './report.mjs';

/** The options of every place that can be more than one machine. */
export const keyOptions = { keys: { type: 'string' }, insecure: { type: 'boolean' } };

/** Whether only this machine can reach an address. */
export function isLoopback(host) {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Throws LaunchError unless it is settled who may join at this host. */
export function checkKeyChoice({ keys, insecure }, host) {
  if (keys !== undefined && insecure) throw new LaunchError('--keys and --insecure exclude each other');
  if (keys === undefined && !insecure && !isLoopback(host)) {
    throw new LaunchError(
      `workers come in over the network${host === undefined ? '' : ` at ${host}`}: give --keys DIR (npx coordinator keygen --out DIR ` +
        'makes keys), or --insecure where everybody who can reach this address may join and read along',
    );
  }
}

/** The flags of `coordinator start`. */
export function coordinatorKeyFlags({ keys, insecure }) {
  if (keys !== undefined) return ['--keys', resolve(keys)];
  return insecure ? ['--insecure'] : [];
}

/** The files of a worker's secret key and of the coordinator's public key, for so many workers in their order; throws LaunchError. */
export function workerKeyFiles(keys, workers) {
  const folder = resolve(keys);
  const names = chooseNames(readKeyFile(join(folder, 'allowed-workers')), workers);
  if (names === undefined) {
    const example = Array.from({ length: workers }, (_, i) => `worker${i}:${i % 2}`).join(',');
    throw new LaunchError(
      `${folder}/allowed-workers has no key for each of ${workers} workers: npx coordinator keygen --workers ${example}`,
    );
  }
  return { secret: names.map((name) => join(folder, `${name}.key`)), coordinator: join(folder, 'coordinator.pub') };
}

/** A name of the list (`KEY NAME [TOWER]` a line) for each worker, the towers taking turns; undefined where there are too few. */
export function chooseNames(list, workers) {
  const free = list
    .split('\n')
    .filter((line) => line.trim() !== '' && line !== '#' && !line.startsWith('# '))
    .map((line) => line.trim().split(/\s+/))
    .map(([, name, tower]) => ({ name, tower }));
  const names = [];
  for (let worker = 0; worker < workers; worker++) {
    // A key that is bound to the tower first: one that is not does for the other tower as well.
    const bound = free.findIndex(({ tower }) => tower === `${worker % 2}`);
    const at = bound >= 0 ? bound : free.findIndex(({ tower }) => tower === undefined);
    if (at < 0) return undefined;
    names.push(free.splice(at, 1)[0].name);
  }
  return names;
}

/** A small file of the keys' folder; throws LaunchError. */
export function readKeyFile(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new LaunchError(`${path} could not be read (${error.code}): npx coordinator keygen makes keys`);
  }
}
