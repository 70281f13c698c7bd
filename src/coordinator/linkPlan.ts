// Which workers are linked: the two towers of a replica, and each tower to the same one of the next replica, in a ring.
// Invariant: a link has one end that listens and one that connects; both know its token, and nobody else.

import { randomUUID } from 'node:crypto';
import { otherTower, towers } from '../spec/layout.ts';
import type { LinkEnd, Neighbour } from '../protocol/messages.ts';
import { seatNumber } from './seats.ts';
import type { Seat } from './seats.ts';

export class LinkPlan {
  readonly #replicas: number;
  /** By the seat that listens, and for whom. */
  readonly #tokens = new Map<string, string>();

  constructor(replicas: number) {
    this.#replicas = replicas;
  }

  /** The links of a worker in these seats; it listens at `address` unless its own command says otherwise. */
  endsOf(seats: readonly Seat[], address: string): LinkEnd[] {
    const isBoth = seats.length === towers.length;
    return seats.flatMap((seat) => {
      const { tower, replica } = seat;
      const ends: LinkEnd[] = [];
      const listen = (neighbour: Neighbour): void => {
        ends.push({ role: 'listen', tower, neighbour, address, token: this.#tokenOf(seat, neighbour) });
      };
      const connect = (neighbour: Neighbour, listener: Seat): void => {
        ends.push({ role: 'connect', tower, neighbour, token: this.#tokenOf(listener, neighbour) });
      };
      if (!isBoth && tower === 0) listen('tower');
      if (!isBoth && tower === 1) connect('tower', { replica, tower: 0 });
      if (this.#replicas > 1) {
        listen('replica');
        connect('replica', { tower, replica: (replica + this.#replicas - 1) % this.#replicas });
      }
      return ends;
    });
  }

  /** The seat that connects where this one listens. */
  connector({ tower, replica }: Seat, neighbour: Neighbour): Seat {
    return neighbour === 'tower' ? { replica, tower: otherTower(tower) } : { replica: (replica + 1) % this.#replicas, tower };
  }

  #tokenOf(listener: Seat, neighbour: Neighbour): string {
    const key = `${String(seatNumber(listener))} ${neighbour}`;
    const token = this.#tokens.get(key) ?? randomUUID();
    this.#tokens.set(key, token);
    return token;
  }
}
