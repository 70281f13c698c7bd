// Tables for people: the first column to the left, numbers to the right.

/** Lines of a table whose columns are as wide as they need to be. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** A number with so many digits that three of them count. */
export function threeDigits(value: number): string {
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 0.01))));
  return value.toFixed(digits);
}

/** A share, such as 0.031, as `3.1%`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
