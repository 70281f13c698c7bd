// Whom a worker trusts: the coordinator that holds a certain key, or whoever is on its own machine.
// Invariant: without keys nothing goes beyond this machine, to the coordinator or to the other tower, unless somebody has said --insecure.

import { UsageError } from '../spec/errors.ts';
import type { ConnectorCurve } from '../protocol/curveKeys.ts';
import { readKeys, readPublicKey } from '../protocol/keyFiles.ts';
import { isOnThisMachine } from '../protocol/sockets.ts';

interface SecurityArguments {
  readonly coordinator: string;
  readonly key?: string | undefined;
  readonly coordinatorKey?: string | undefined;
  readonly insecure?: boolean | undefined;
}

/** The keys to connect with, if any; throws UsageError where the flags contradict each other, leave the door open, or a file is wrong. */
export function readSecurity({ coordinator, key, coordinatorKey, insecure }: SecurityArguments): ConnectorCurve | undefined {
  if (key === undefined || coordinatorKey === undefined) {
    checkExposure(coordinator, { listens: false, insecure: insecure === true });
    return undefined;
  }
  if (insecure === true) throw new UsageError('--key and --insecure contradict each other: take one of the two away');
  return { keys: readKeys(key), serverKey: readPublicKey(coordinatorKey) };
}

/** Throws UsageError where what is not encrypted would leave this machine against nobody's word. */
export function checkExposure(address: string, { listens, insecure }: { listens: boolean; insecure: boolean }): void {
  if (insecure || isOnThisMachine(address)) return;
  throw new UsageError(
    listens
      ? `a tower would listen at ${address} for whoever can connect: give coordinator and workers their keys (\`coordinator keygen\`), or say --insecure`
      : `${address} is another machine: give --key and --coordinator-key (\`coordinator keygen\` makes them), or say --insecure`,
  );
}

/** Says once what --insecure means, where it means something. */
export function warnIfInsecure({ coordinator, insecure }: SecurityArguments, say: (line: string) => void): void {
  if (insecure !== true) return;
  say(
    `WARNING: --insecure: nothing is encrypted between here and ${coordinator}, nor between the towers, and nobody's identity is checked`,
  );
}
