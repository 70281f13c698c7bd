// Who may listen and be listened to: the flags of every command that workers connect to.
// Invariant: without keys nothing listens beyond this machine, unless somebody has said --insecure and been told what that means.

import { join } from 'node:path';
import { z } from 'zod';
import { UsageError } from '../spec/errors.ts';
import { keyFileNames, readAllowedKeys, readKeys } from '../protocol/keyFiles.ts';
import type { ListenerCurve } from '../protocol/curveKeys.ts';
import { isOnThisMachine } from '../protocol/sockets.ts';
import type { Flag } from './command.ts';

const group = 'This command:';

export const securityFlags = {
  keys: {
    type: 'string',
    requiresArg: true,
    group,
    describe: 'Encrypt, and let in only the workers of the list in this folder, which `coordinator keygen` makes',
  },
  insecure: { type: 'boolean', group, describe: 'Listen beyond this machine without keys: anybody who can connect can join' },
} as const satisfies Record<string, Flag>;

export const securityFields = { keys: z.string().min(1).optional(), insecure: z.boolean().optional() } as const;

interface SecurityArguments {
  readonly keys?: string | undefined;
  readonly insecure?: boolean | undefined;
  readonly local?: string | undefined;
}

/** The keys to listen with at `bind` (nothing: where no other user can come), if any; throws UsageError where the flags leave the door open, contradict each other, or a file is wrong. */
export function readSecurity(
  args: SecurityArguments,
  bind: string | undefined,
  say: (line: string) => void,
): ListenerCurve | undefined {
  const { keys, insecure, local } = args;
  if (keys !== undefined) {
    if (insecure === true) throw new UsageError('--keys and --insecure contradict each other: take one of the two away');
    if (local !== undefined)
      throw new UsageError('--keys goes with workers that are started elsewhere (`worker --key`): --local needs no keys');
    return {
      keys: readKeys(join(keys, keyFileNames.secret)),
      allowed: readAllowedKeys(join(keys, keyFileNames.allowed)),
    };
  }
  if (bind === undefined || isOnThisMachine(bind)) return undefined;
  if (insecure !== true) {
    throw new UsageError(
      `--bind ${bind} lets in whoever can connect: make keys with \`coordinator keygen\` and give --keys DIR, or say --insecure`,
    );
  }
  say(
    `WARNING: --insecure: nothing is encrypted at ${bind}, and whoever can connect to it can read the pictures and weights, join as a worker, and change what is learnt`,
  );
  return undefined;
}
