import type { FileName } from '../../common/ids.ts'
import { MAX_RECORDS } from './protocol.ts'

/** Bytes of records in one message, about: it is read at once, and others wait behind it. */
const MAX_BYTES = 200_000
/** Of a record without its name, about. */
const RECORD_BYTES = 160

/** The first of these groups of records, as many as fit into one message; one at least, unless there is none. */
export function fitting<T extends { readonly name: FileName }>(groups: Iterable<readonly T[]>): (readonly T[])[] {
  const taken: (readonly T[])[] = []
  let [records, bytes] = [0, 0]
  for (const group of groups) {
    records += group.length
    for (const { name } of group) bytes += RECORD_BYTES + Buffer.byteLength(name)
    if (taken.length > 0 && (records > MAX_RECORDS || bytes > MAX_BYTES)) break
    taken.push(group)
  }
  return taken
}
