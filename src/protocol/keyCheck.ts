// Who may connect to a socket that listens under CURVE: libzmq asks for every key (ZeroMQ RFC 27, ZAP), and this answers.
// Invariant: it fails closed. It is there before its socket listens; a socket that cannot ask (`zapEnforceDomain`), gets no answer or gets
// nonsense lets nobody in. libzmq asks at one address of a ZeroMQ context, so every socket that checks keys has a context of its own, and
// the sockets without keys are not concerned.

import { Context, Reply } from 'zeromq';
import { RefusedError } from '../spec/errors.ts';
import { fingerprintOf, z85Decode } from './curveKeys.ts';
import type { CurveKeys, ListenerCurve } from './curveKeys.ts';
import { frameBytes } from './frames.ts';

/** Where libzmq asks. */
const zapAddress = 'inproc://zeromq.zap.01';
const zapDomain = 'crosstower';
const zapVersion = '1.0';

/** What CURVE adds to a frame: a nonce, a MAC, and room to spare. */
export const curveOverheadBytes = 64;

export class KeyCheck {
  /** Fingerprint of the last key that was turned away. */
  lastRefused: string | undefined;
  readonly #context = new Context({ blocky: false });
  readonly #socket = new Reply({ context: this.#context, linger: 0 });
  readonly #secretKey: string;
  readonly #allowed: ReadonlySet<string>;
  readonly #onRefused: (fingerprint: string) => void;

  /** `onRefused` is told of every key that is turned away. */
  constructor({ keys, allowed }: ListenerCurve, onRefused: (fingerprint: string) => void = () => undefined) {
    this.#secretKey = keys.secretKey;
    this.#allowed = new Set(allowed.map(({ publicKey }) => hexOf(z85Decode(publicKey))));
    this.#onRefused = onRefused;
  }

  /** Answers from now on; must come before the socket listens. Throws RefusedError where it cannot. */
  async start(): Promise<void> {
    try {
      await this.#socket.bind(zapAddress);
    } catch (error) {
      this.close();
      throw new RefusedError('keys cannot be checked, so nobody is let in: the check could not be set up', { cause: error });
    }
    // Without a check libzmq lets nobody in, and the socket's monitor says so (`unchecked`).
    this.#answer().catch(() => {
      this.close();
    });
  }

  /** Options of the socket that listens, on top of all others. */
  get socketOptions() {
    return {
      context: this.#context,
      curveServer: true,
      curveSecretKey: this.#secretKey,
      zapDomain,
      zapEnforceDomain: true,
      maxMessageSize: frameBytes + curveOverheadBytes,
    } as const;
  }

  close(): void {
    if (!this.#socket.closed) this.#socket.close();
  }

  async #answer(): Promise<void> {
    for await (const frames of this.#socket) {
      const [version, requestId = Buffer.alloc(0), domain, , , mechanism, key = Buffer.alloc(0)] = frames;
      const isAsked = textOf(version) === zapVersion && textOf(domain) === zapDomain && textOf(mechanism) === 'CURVE';
      const isAllowed = isAsked && key.length === 32 && this.#allowed.has(hexOf(key));
      if (!isAllowed) {
        this.lastRefused = fingerprintOf(key);
        this.#onRefused(this.lastRefused);
      }
      const [status, text] = isAllowed ? ['200', 'OK'] : ['400', 'this key is not allowed'];
      await this.#socket.send([zapVersion, requestId, status, text, '', '']);
    }
  }
}

/** Options of a socket that connects, on top of all others. */
export function connectorCurveOptions(keys: CurveKeys, serverKey: string) {
  return {
    curvePublicKey: keys.publicKey,
    curveSecretKey: keys.secretKey,
    curveServerKey: serverKey,
    maxMessageSize: frameBytes + curveOverheadBytes,
  } as const;
}

function hexOf(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('hex');
}

function textOf(frame: Buffer | undefined): string {
  return frame?.toString('latin1') ?? '';
}
