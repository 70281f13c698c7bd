// New keys, drawn by libzmq from the system's randomness. Apart from curveKeys.ts, so that who only reads keys need not load libzmq.

import { curveKeyPair } from 'zeromq';
import type { CurveKeys, LinkCurve } from './curveKeys.ts';

/** A new pair, from the system's randomness. */
export function newKeys(): CurveKeys {
  return curveKeyPair();
}

/** New keys for a link between two towers; the coordinator makes them and hands each end its own. */
export function newLinkCurves(): readonly [LinkCurve, LinkCurve] {
  const [zero, one] = [newKeys(), newKeys()];
  return [
    { ...zero, peerKey: one.publicKey },
    { ...one, peerKey: zero.publicKey },
  ];
}
