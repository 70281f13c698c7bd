// Keys of CURVE, ZeroMQ's encryption: Curve25519 pairs, written as the 40 characters of Z85 that libzmq takes.
// Invariant: a secret key leaves this module for libzmq and for a file of mode 0600, never for a message, a log or an error; people
// compare fingerprints.

import { createHash, createHmac, createPrivateKey, createPublicKey, diffieHellman, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** Both halves of a key, Z85. */
export interface CurveKeys {
  readonly publicKey: string;
  readonly secretKey: string;
}

/** Whom a listening socket lets in. */
export interface AllowedKey {
  readonly publicKey: string;
  /** What people call its holder. */
  readonly name: string;
  /** The only tower that its holder may be; any where there is none. */
  readonly tower?: 0 | 1 | undefined;
}

/** What a socket listens with. */
export interface ListenerCurve {
  readonly keys: CurveKeys;
  readonly allowed: readonly AllowedKey[];
}

/** What a socket connects with: its own keys, and the public key of whoever it wants to find there. */
export interface ConnectorCurve {
  readonly keys: CurveKeys;
  readonly serverKey: string;
}

/** One end of a link between two who each hold a pair of keys: the same for whoever listens and whoever connects. */
export interface LinkCurve extends CurveKeys {
  /** Public key of the other end. */
  readonly peerKey: string;
}

/** The pair that a secret key belongs to; undefined where it is no key. */
export function keysOf(secretKey: string): CurveKeys | undefined {
  const bytes = z85Decode(secretKey);
  if (bytes === undefined) return undefined;
  const { x } = createPublicKey(privateKeyObject(bytes)).export({ format: 'jwk' });
  return { secretKey, publicKey: z85Encode(Buffer.from(x ?? '', 'base64url')) };
}

export function isKey(text: string): boolean {
  return z85Decode(text) !== undefined;
}

/** What two people can read to each other: the start of the public key's SHA-256. */
export function fingerprintOf(publicKey: string | Uint8Array): string {
  const bytes = typeof publicKey === 'string' ? (z85Decode(publicKey) ?? publicKey) : publicKey;
  return `sha256:${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`;
}

/**
 * Shows that whoever speaks under this id on the wire holds a key: a MAC of the id under what only the two owners of the keys can compute
 * (X25519). libzmq does not tell us whose key a message came under; this does, for an id belongs to one connection and is never used twice.
 */
export function proofOf(keys: CurveKeys, otherPublicKey: string, workerId: string): string {
  const [secret, other] = [z85Decode(keys.secretKey), z85Decode(otherPublicKey)];
  if (secret === undefined || other === undefined) throw new Error('a proof with something that is no key');
  const shared = diffieHellman({ privateKey: privateKeyObject(secret), publicKey: publicKeyObject(other) });
  return createHmac('sha256', shared).update(`crosstower hello ${workerId}`).digest('hex');
}

/** Whether two proofs are the same, in a time that does not tell where they differ. */
export function isSameProof(one: string, other: string): boolean {
  return one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other));
}

/** What comes before the 32 bytes of an X25519 secret key in PKCS #8 (RFC 8410). */
const pkcs8Head = Buffer.from('302e020100300506032b656e04220420', 'hex');

function privateKeyObject(bytes: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([pkcs8Head, bytes]), format: 'der', type: 'pkcs8' });
}

function publicKeyObject(bytes: Uint8Array): KeyObject {
  const x = Buffer.from(bytes).toString('base64url');
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
}

/** ZeroMQ RFC 32: five characters of base 85 for four bytes, big-endian. */
const z85Alphabet = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#';
const keyLength = { characters: 40, bytes: 32 };

/** The 32 bytes of a key; undefined where the text is none. */
export function z85Decode(text: string): Buffer | undefined {
  if (text.length !== keyLength.characters) return undefined;
  const bytes = Buffer.alloc(keyLength.bytes);
  for (let group = 0; group < keyLength.bytes / 4; group++) {
    let value = 0;
    for (const character of text.slice(5 * group, 5 * group + 5)) {
      const digit = z85Alphabet.indexOf(character);
      if (digit < 0) return undefined;
      value = 85 * value + digit;
    }
    if (value > 0xffff_ffff) return undefined;
    bytes.writeUInt32BE(value, 4 * group);
  }
  return bytes;
}

export function z85Encode(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 4) {
    let value = bytes.readUInt32BE(at);
    let group = '';
    for (let digit = 0; digit < 5; digit++) {
      group = `${z85Alphabet.charAt(value % 85)}${group}`;
      value = Math.floor(value / 85);
    }
    text += group;
  }
  return text;
}
