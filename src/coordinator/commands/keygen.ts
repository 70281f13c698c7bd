// `coordinator keygen`: keys for a coordinator and its workers, and the list that lets the one know the others.
// Invariant: secret keys are written for their owner alone (0600), are never printed, and are never overwritten by accident.

import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { StorageError, UsageError, exitCodes } from '../../spec/errors.ts';
import { fingerprintOf } from '../../protocol/curveKeys.ts';
import type { AllowedKey, CurveKeys } from '../../protocol/curveKeys.ts';
import { allowedLine, keyFileNames } from '../../protocol/keyFiles.ts';
import { newKeys } from '../../protocol/newKeys.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';

const group = 'This command:';

const keygenFlags = {
  out: { type: 'string', requiresArg: true, group, default: 'keys', describe: 'Folder for the keys' },
  workers: {
    type: 'string',
    requiresArg: true,
    group,
    default: 'tower0:0,tower1:1',
    describe: 'Names of the workers, with commas between; NAME:TOWER for one that may be that tower only',
  },
  force: { type: 'boolean', group, describe: 'Overwrite keys that are there' },
} as const satisfies Record<string, Flag>;

const keygenSchema = z.object({ out: z.string().min(1), workers: z.string(), force: z.boolean().optional() });

export const keygen: Command = {
  name: 'keygen',
  describe: 'Make keys, for a coordinator that listens beyond its own machine',
  flags: keygenFlags,
  examples: [
    ['keygen', 'keys for a coordinator and two workers, in ./keys'],
    ['keygen --workers a,b,c,d --out cluster', 'four workers, each of which may be either tower'],
  ],

  run(argv, { output }) {
    const { out, workers, force } = parseFlags(keygenSchema, argv);
    const wanted = workers.split(',').map(parseWorker);
    const names = wanted.map(({ name }) => name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw new UsageError(`--workers: ${twice} stands there twice`);
    const coordinator = newKeys();
    const holders = wanted.map((worker) => ({ ...worker, keys: newKeys() }));
    const list = holders.map(({ keys, ...worker }) => allowedLine({ ...worker, publicKey: keys.publicKey }));
    writeAll(
      out,
      [
        ...keyFiles('coordinator', coordinator),
        ...holders.flatMap(({ name, keys }) => keyFiles(name, keys)),
        { name: keyFileNames.allowed, text: `# KEY NAME [TOWER]\n${list.join('')}`, mode: 0o644 },
      ],
      force === true,
    );
    output.write(instructions(out, coordinator, holders));
    return Promise.resolve(exitCodes.done);
  },
};

/** NAME or NAME:TOWER; throws UsageError. */
function parseWorker(text: string): Omit<AllowedKey, 'publicKey'> {
  const match = /^([\w.-]{1,64})(?::([01]))?$/.exec(text);
  const [, name, tower] = match ?? [];
  if (name === undefined || name.startsWith('.') || name === 'coordinator') {
    throw new UsageError(`--workers takes names such as node-a or node-a:0, not '${text}'`);
  }
  return { name, tower: tower === undefined ? undefined : tower === '0' ? 0 : 1 };
}

interface KeyFile {
  readonly name: string;
  readonly text: string;
  readonly mode: number;
}

function keyFiles(name: string, { publicKey, secretKey }: CurveKeys): KeyFile[] {
  return [
    { name: `${name}.key`, text: `${secretKey}\n`, mode: 0o600 },
    { name: `${name}.pub`, text: `${publicKey}\n`, mode: 0o644 },
  ];
}

function writeAll(folder: string, files: readonly KeyFile[], force: boolean): void {
  const present = files.find(({ name }) => existsSync(join(folder, name)));
  if (present !== undefined && !force) {
    throw new UsageError(`${join(folder, present.name)} is there already: choose another --out, or overwrite with --force`);
  }
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const { name, text, mode } of files) {
      const path = join(folder, name);
      // A file that is overwritten would keep its mode.
      if (force) rmSync(path, { force: true });
      writeFileSync(path, text, { mode, flag: 'wx' });
    }
  } catch (error) {
    throw new StorageError(`${folder} could not be written: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

function instructions(
  folder: string,
  coordinator: CurveKeys,
  holders: readonly { readonly name: string; readonly keys: CurveKeys }[],
): string {
  const width = Math.max('coordinator'.length, ...holders.map(({ name }) => name.length));
  const lines = [{ name: 'coordinator', keys: coordinator }, ...holders].map(
    ({ name, keys }) => `  ${name.padEnd(width)}  ${fingerprintOf(keys.publicKey)}`,
  );
  const example = holders[0]?.name ?? 'NAME';
  return [
    `keys in ${folder}, with the fingerprints of their public halves:`,
    ...lines,
    `on the coordinator's machine keep  ${join(folder, keyFileNames.secret)} and ${join(folder, keyFileNames.allowed)}`,
    `to each worker's machine copy      its NAME.key, by a safe way, and ${join(folder, keyFileNames.public)}; then delete NAME.key here`,
    `  coordinator start --keys ${folder} --bind tcp://HOST:5570`,
    `  worker --key ${example}.key --coordinator-key ${keyFileNames.public} --coordinator tcp://HOST:5570 --gpu 0`,
    `a worker is shut out by deleting its line in ${keyFileNames.allowed} before the coordinator starts`,
    '',
  ].join('\n');
}
