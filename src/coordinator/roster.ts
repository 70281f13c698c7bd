// Who is there: the members of a run, and which seats they hold.
// Invariant: nobody holds a seat of another's.

import { seatNames, seatNumber, seatsOf } from './seats.ts';
import type { Seat } from './seats.ts';
import type { Member } from './member.ts';

export class Roster {
  readonly #replicas: number;
  readonly #seats: readonly Seat[];
  #members: readonly Member[] = [];

  constructor(replicas: number) {
    this.#replicas = replicas;
    this.#seats = seatsOf(replicas);
  }

  /** In the order in which they joined. */
  get members(): readonly Member[] {
    return this.#members;
  }

  /** Its seats must be free. */
  add(member: Member): void {
    this.#members = [...this.#members, member];
  }

  remove(member: Member): void {
    this.#members = this.#members.filter((other) => other !== member);
  }

  find(workerId: string): Member | undefined {
    return this.#members.find((member) => member.workerId === workerId);
  }

  /** Who holds one of these. */
  holders(seats: readonly Seat[]): Member[] {
    const numbers = seats.map(seatNumber);
    return this.#members.filter((member) => member.seats.some((seat) => numbers.includes(seatNumber(seat))));
  }

  /** The seats that nobody holds. */
  missing(): Seat[] {
    return this.#seats.filter((seat) => this.holders([seat]).length === 0);
  }

  /** `tower 1`, and its replica where there are several. */
  namesOf(seats: readonly Seat[]): string {
    return seatNames(seats, this.#replicas);
  }

  /** `tower 1 (host, pid 4711)`. */
  describe(member: Member): string {
    return `${this.namesOf(member.seats)} (${member.place})`;
  }
}
