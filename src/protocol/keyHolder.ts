// Who says hello under CURVE. libzmq has let in a key, but does not say under which id; the hello's proof ties the one to the other.
// Invariant: nobody is taken for a worker whose key it does not hold, nor for a tower that its key is not for.

import { RefusedError } from '../spec/errors.ts';
import { fingerprintOf, isSameProof, proofOf } from './curveKeys.ts';
import type { ListenerCurve } from './curveKeys.ts';
import type { ToCoordinator } from './messages.ts';

type Hello = Extract<ToCoordinator, { type: 'hello' }>;

/** The holder's name, and the tower that it may have of what it asks for; throws RefusedError. */
export function checkHolder(hello: Hello, workerId: string, curve: ListenerCurve): { name: string; tower: Hello['tower'] } {
  const { proof } = hello;
  if (proof === undefined) throw new RefusedError('a hello that does not say whose key it comes with');
  const holder = curve.allowed.find(({ publicKey }) => publicKey === proof.publicKey);
  if (holder === undefined || !isSameProof(proof.mac, proofOf(curve.keys, holder.publicKey, workerId))) {
    throw new RefusedError(`a hello in the name of the key ${fingerprintOf(proof.publicKey)}, by somebody who does not hold it`);
  }
  const { name, tower = hello.tower } = holder;
  if (hello.tower !== 'auto' && hello.tower !== tower) {
    throw new RefusedError(
      `the key ${name} (${fingerprintOf(holder.publicKey)}) is for tower ${String(tower)}, not for ${hello.tower === 'both' ? 'both towers' : `tower ${String(hello.tower)}`}`,
    );
  }
  return { name, tower };
}
