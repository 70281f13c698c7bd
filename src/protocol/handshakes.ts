// Handshakes that fail, and what they mean. libzmq says little: one side learns of a refused key or of another mechanism, the other sees a
// connection that breaks; and it tries again for ever, or gives up in silence.
// Invariant: who will never be let in learns it within ten seconds, as a RefusedError that names the fingerprints of the keys.

import { performance } from 'node:perf_hooks';
import { RefusedError } from '../spec/errors.ts';
import { fingerprintOf } from './curveKeys.ts';
import type { ConnectorCurve, ListenerCurve } from './curveKeys.ts';

/**
 * `key`: the listening side does not know the key. `mechanism`: one side encrypts, the other does not. `cryptography`: the connecting side
 * has another key in mind than the listening side holds. `unchecked`: the listening side cannot check keys. `nonsense`: not ZeroMQ.
 */
export type HandshakeFailure = 'key' | 'mechanism' | 'cryptography' | 'unchecked' | 'broken' | 'nonsense';

/** What libzmq's event says; undefined for one that is none of a handshake's failures. */
export function handshakeFailure(event: { readonly type: string; readonly error?: unknown }): HandshakeFailure | undefined {
  const { error } = event;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  switch (event.type) {
    case 'handshake:error:auth':
      return 'key';
    case 'handshake:error:protocol':
      if (code === 'ERR_ZMTP_MECHANISM_MISMATCH') return 'mechanism';
      return code === 'ERR_ZMTP_CRYPTOGRAPHIC' ? 'cryptography' : 'nonsense';
    case 'handshake:error:other':
      // What libzmq says where nobody listens for its questions about keys.
      return code === 'EFAULT' ? 'unchecked' : 'broken';
    default:
      return undefined;
  }
}

/** So often, over so long, must handshakes break off before it is no accident: something in between may accept and hang up for a moment. */
const brokenOffTimes = 3;
const defaultBrokenOffMs = 5000;

/** Judges the failed handshakes of one connecting side. */
export class HandshakeJudge {
  readonly #whom: string;
  readonly #curve: ConnectorCurve | undefined;
  readonly #brokenOffMs: number;
  #broken = 0;
  #firstBrokenMs = 0;

  /** `whom`, as in 'the coordinator at tcp://10.0.0.1:5570'. */
  constructor(whom: string, curve: ConnectorCurve | undefined, brokenOffMs = defaultBrokenOffMs) {
    this.#whom = whom;
    this.#curve = curve;
    this.#brokenOffMs = brokenOffMs;
  }

  succeeded(): void {
    this.#broken = 0;
  }

  /** The error to end with; undefined where trying again makes sense. */
  failed(failure: HandshakeFailure): RefusedError | undefined {
    const curve = this.#curve;
    if (curve === undefined) {
      if (failure !== 'mechanism') return undefined;
      return new RefusedError(`${this.#whom} lets nobody in without a key: give --key and --coordinator-key`);
    }
    const ours = fingerprintOf(curve.keys.publicKey);
    if (failure === 'key') return new RefusedError(`${this.#whom} does not know the key ${ours}: its line is missing there`);
    if (failure === 'mechanism') {
      return new RefusedError(`${this.#whom} does not encrypt, and this side does, with the key ${ours}: start it with its keys`);
    }
    if (this.#broken === 0) this.#firstBrokenMs = performance.now();
    this.#broken++;
    if (this.#broken < brokenOffTimes || performance.now() - this.#firstBrokenMs < this.#brokenOffMs) return undefined;
    return new RefusedError(
      `${this.#whom} breaks off every handshake: it does not hold the key ${fingerprintOf(curve.serverKey)} that was expected there, or cannot check ours, ${ours}`,
    );
  }
}

/** For a listening side that cannot check keys any more, and so lets nobody in. */
export function uncheckedError(): RefusedError {
  return new RefusedError('keys cannot be checked any more, so nobody is let in: start again');
}

/** Between two lines about handshakes that failed for the same reason: whoever is out there may try for ever, and a port that is probed breaks many. */
const quietMs = 5000;
const quietBrokenMs = 60_000;

/** Says which handshakes a listening side breaks off. */
export class HandshakeLog {
  readonly #curve: ListenerCurve | undefined;
  readonly #log: (line: string) => void;
  readonly #loggedMs = new Map<HandshakeFailure, number>();

  constructor(curve: ListenerCurve | undefined, log: (line: string) => void) {
    this.#curve = curve;
    this.#log = log;
  }

  add(failure: HandshakeFailure): void {
    const line = this.#curve === undefined ? undefined : lineOf(failure, fingerprintOf(this.#curve.keys.publicKey));
    const nowMs = performance.now();
    if (
      line === undefined ||
      nowMs - (this.#loggedMs.get(failure) ?? -Infinity) < (failure === 'broken' ? quietBrokenMs : quietMs)
    )
      return;
    this.#loggedMs.set(failure, nowMs);
    this.#log(line);
  }
}

/** A refused key has a line of its own (keyCheck.ts), and of what is not ZeroMQ there is too much to say. */
function lineOf(failure: HandshakeFailure, ours: string): string | undefined {
  switch (failure) {
    case 'mechanism':
      return `turned a connection away: it does not encrypt, and this coordinator does, with the key ${ours}`;
    case 'cryptography':
      return `turned a connection away: it expects another coordinator than this one, whose key is ${ours}`;
    case 'unchecked':
      return uncheckedError().message;
    case 'broken':
      // Of two sides only the one that is faster finds that the other's mechanism is another.
      return `a connection broke off its handshake: perhaps it does not encrypt, and this coordinator does, with the key ${ours}`;
    case 'key':
    case 'nonsense':
      return undefined;
  }
}
