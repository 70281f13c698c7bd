// Processes as Linux shows them under /proc: who descends from whom, and what each has used. Elsewhere nothing is found, and nothing is said
// of memory; the processes of a run end by the channels between them all the same.

import { readFileSync, readdirSync } from 'node:fs';

/** One process as /proc/PID/stat and /proc/PID/status describe it. */
export interface ProcessUsage {
  readonly pid: number;
  /** Page faults since its start that needed no disk. */
  readonly minorFaults: number;
  /** Physical memory: now, and the most it has held. */
  readonly memoryBytes: number;
  readonly peakMemoryBytes: number;
  readonly openFiles: number;
}

interface Stat {
  readonly state: string;
  readonly parent: number;
  readonly minorFaults: number;
}

/** Reads a line of /proc/PID/stat: the name, in brackets, may hold anything, spaces and brackets included. */
export function parseStat(text: string): Stat {
  const [state = '', parent, , , , , , minorFaults] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state, parent: Number(parent), minorFaults: Number(minorFaults) };
}

/** The bytes behind a line such as `VmHWM:   1234 kB` of /proc/PID/status. */
export function parseStatusBytes(text: string, field: string): number | undefined {
  const match = new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm').exec(text);
  return match === null ? undefined : 1024 * Number(match[1]);
}

/** All processes below one, parents first. */
export function descendants(root: number): number[] {
  const parents = new Map<number, number>();
  for (const pid of listProcesses()) {
    const stat = readStat(pid);
    if (stat !== undefined) parents.set(pid, stat.parent);
  }
  const found: number[] = [];
  let generation = [root];
  while (generation.length > 0) {
    const children = [...parents].filter(([, parent]) => generation.includes(parent)).map(([pid]) => pid);
    found.push(...children);
    generation = children;
  }
  return found;
}

/** What the leaves of a tree have used: those that compute, not the commands that started them and wait. */
export function leafUsage(root: number): ProcessUsage[] {
  const below = descendants(root);
  const parents = new Set(below.map((pid) => readStat(pid)?.parent));
  return below.filter((pid) => !parents.has(pid)).flatMap((pid) => usageOf(pid) ?? []);
}

/** Whether a process is there and not just waiting to be buried. */
export function isRunning(pid: number): boolean {
  const stat = readStat(pid);
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
}

/** What a process has used; nothing where it is gone, or is another user's. */
export function usageOf(pid: number): ProcessUsage | undefined {
  const stat = readStat(pid);
  const status = readProc(`${pid}/status`) ?? '';
  const memoryBytes = parseStatusBytes(status, 'VmRSS');
  const peakMemoryBytes = parseStatusBytes(status, 'VmHWM');
  const openFiles = countFiles(pid);
  if (stat === undefined || memoryBytes === undefined || peakMemoryBytes === undefined || openFiles === undefined)
    return undefined;
  return { pid, minorFaults: stat.minorFaults, memoryBytes, peakMemoryBytes, openFiles };
}

function countFiles(pid: number): number | undefined {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return undefined;
  }
}

function readStat(pid: number): Stat | undefined {
  const text = readProc(`${pid}/stat`);
  return text === undefined ? undefined : parseStat(text);
}

function listProcesses(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

/** A file of /proc; nothing where the process is gone or there is no /proc. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return undefined;
  }
}
