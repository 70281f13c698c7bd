// Nonsense on the wire. A peer that speaks nonsense is as good as lost: hence exit 3, like every other lost peer.
// Invariant: no text of the peer reaches a message unquoted or at length.

import { PeerLostError } from '../spec/errors.ts';
import { protocolVersion } from './messages.ts';

/** A message is damaged, or is not what the protocol allows at this place (exit 3). */
export class ProtocolError extends PeerLostError {}

/** The other side speaks another version of the protocol; whoever notices refuses, naming both. */
export class VersionMismatchError extends ProtocolError {
  readonly theirs: number;

  constructor(theirs: number) {
    super(
      `the other side speaks protocol ${String(theirs)}, this one ${String(protocolVersion)}: install the same crosstower on all hosts`,
    );
    this.theirs = theirs;
  }
}

/** At most 200 printable characters of what a peer sent. */
export function quoted(theirs: string): string {
  const printable = theirs.slice(0, 200).replace(/[^\x20-\x7e]/g, '?');
  return theirs.length > 200 ? `${printable}...` : printable;
}
