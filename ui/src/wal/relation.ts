interface Relation {
  database: string | null;
  database_oid: number;
  relation: string | null;
  relfilenode: number | null;
}

/** A table by its name, or what is known of one whose name no snapshot tells. */
export function relationName({ database, database_oid, relation, relfilenode }: Relation): string {
  if (relation !== null) return relation;
  const where = database ?? `database ${database_oid}`;
  const file = relfilenode === null ? "" : `, file ${relfilenode}`;
  return `a table whose name is not known (${where}${file})`;
}
