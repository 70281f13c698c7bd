// ZMTP 3.0 by hand (ZeroMQ RFC 23), for peers that speak it up to a point: greeting, NULL's READY, and frames with any length in their head.

/** What a peer says first: signature, version 3.0, mechanism, not a server. */
export function greeting(mechanism: string, version: readonly [number, number] = [3, 0]): Buffer {
  const name = Buffer.alloc(20);
  name.write(mechanism, 'latin1');
  return Buffer.concat([Buffer.from('ff00000000000000007f', 'hex'), Buffer.from(version), name, Buffer.alloc(32)]);
}

/** NULL's only command: a DEALER with this routing id. */
export function ready(routingId: string): Buffer {
  const property = (name: string, value: string): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(value.length);
    return Buffer.concat([Buffer.of(name.length), Buffer.from(name), length, Buffer.from(value)]);
  };
  const body = Buffer.concat([
    Buffer.of(5),
    Buffer.from('READY'),
    property('Socket-Type', 'DEALER'),
    property('Identity', routingId),
  ]);
  return Buffer.concat([Buffer.of(0x04, body.length), body]);
}

/** A frame's head with any length, its body not included. */
export function frameHead(length: bigint, { more = false, command = false } = {}): Buffer {
  const head = Buffer.alloc(9);
  head.writeUInt8((more ? 1 : 0) | 2 | (command ? 4 : 0));
  head.writeBigUInt64BE(length, 1);
  return head;
}

/** A whole frame. */
export function frame(body: Uint8Array, options: { more?: boolean; command?: boolean } = {}): Buffer {
  return Buffer.concat([frameHead(BigInt(body.length), options), body]);
}
