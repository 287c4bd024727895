import { asNetworkError, errnoOf, NetworkError } from './errors.ts'

/** What people are told to do where a database can't be used. */
export interface DatabaseAdvice {
  /** where it is damaged */
  damaged: string
  /** where another process uses it: which one that may be */
  busy: string
  /** where it can't be opened or made */
  access: string
  /** where its folder can't be made */
  folder: string
}

/** Whether what is in the file, not its surroundings, is at fault. */
export function isDamaged(error: unknown): boolean {
  const code = errnoOf(error) ?? ''
  return code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB'
}

/** What a failure of the SQLite database at `path` means, in words for the person who configured it. */
export function databaseFailure(error: unknown, path: string, advice: DatabaseAdvice): NetworkError {
  const code = errnoOf(error) ?? ''
  const say = (problem: string) => new NetworkError('unavailable', `database ${path}: ${problem}`, {}, error)
  if (code === 'SQLITE_FULL')
    return new NetworkError(
      'unavailable',
      `the disk of the database ${path} is full: free some space and try again`,
      { reason: 'disk_full' },
      error,
    )
  if (isDamaged(error)) return say(`it is damaged, or no database: ${advice.damaged}`)
  if (code.startsWith('SQLITE_BUSY')) return say(`another process uses it: ${advice.busy}`)
  if (
    code.startsWith('SQLITE_READONLY') ||
    code.startsWith('SQLITE_CANTOPEN') ||
    ['EACCES', 'EPERM', 'EROFS'].includes(code)
  )
    return say(`it can't be opened for writing: ${advice.access}`)
  if (['ENOTDIR', 'EEXIST', 'EISDIR', 'ENOENT'].includes(code)) return say(`its folder can't be made: ${advice.folder}`)
  if (code.startsWith('SQLITE_IOERR')) return say(`the disk fails (${code})`)
  return asNetworkError(error)
}
