/** Places in the WAL, as PostgreSQL writes them: two hexadecimal numbers of 32 bits. */

const LSN = /^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/;

export function isLsn(text: string): boolean {
  return LSN.test(text);
}

function placeOf(lsn: string): bigint | null {
  if (!isLsn(lsn)) return null;
  const [high, low] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

/** Bytes of WAL from one place to another, negative backwards; null when one is no place. */
export function walBetween(from: string, to: string): number | null {
  const [a, b] = [placeOf(from), placeOf(to)];
  return a === null || b === null ? null : Number(b - a);
}
