// By which of its addresses others reach this machine: the one that its packets to the coordinator leave from.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';

/** An address to listen at and to be told to others: `address` itself, or for 0.0.0.0 this machine's own as seen from `coordinator`. */
export async function reachableAddress(address: string, coordinator: string): Promise<string> {
  const port = /^tcp:\/\/0\.0\.0\.0:(\d+|\*)$/.exec(address)?.[1];
  const [, bracketed, plain, coordinatorPort] = /^tcp:\/\/(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(coordinator) ?? [];
  const host = bracketed ?? plain;
  if (port === undefined || host === undefined) return address;
  // No packet is sent: connecting a UDP socket only looks up the route.
  const socket = createSocket(isIP(host) === 6 ? 'udp6' : 'udp4');
  try {
    const connected = once(socket, 'connect');
    socket.connect(Number(coordinatorPort), host);
    await connected;
    const own = socket.address().address;
    return `tcp://${isIP(own) === 6 ? `[${own}]` : own}:${port}`;
  } catch {
    // A name that only has IPv6 addresses, or no route: the other side hears 0.0.0.0, and --peer-address mends it.
    return address;
  } finally {
    socket.close();
  }
}
