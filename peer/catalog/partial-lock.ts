import { closeSync, readFileSync, writeSync } from 'node:fs'
import { errnoOf, NetworkError } from '../../common/errors.ts'
import { isAbsent } from './open-directory.ts'
import type { SharedFolder } from './shared-folder.ts'

/**
 * A lock file in the root of a folder, held by a process. One left behind by a process that was killed is taken over:
 * it names its holder by process id and start time. Holders on other machines (a folder on NFS) are not seen; both
 * would write the same verified bytes.
 * @returns how to let go of it
 * @throws NetworkError `conflict` where it is held
 */
export function acquireLock(folder: SharedFolder, name: string, what: string): () => void {
  for (let attempt = 1; ; attempt++) {
    try {
      const fd = folder.openOrCreate(name, true)
      try {
        writeSync(fd, `${process.pid} ${startOf(process.pid)}`)
      } catch (error) {
        remove(folder, name)
        throw error
      } finally {
        closeSync(fd)
      }
      return () => remove(folder, name)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
      const holder = holderOf(folder, name)
      if (holder || attempt === 3)
        throw new NetworkError('conflict', `another transfer of ${what} is under way${holder ? ` (${holder})` : ''}`)
      remove(folder, name)
    }
  }
}

/** Who holds the lock; undefined where nobody does any more. */
function holderOf(folder: SharedFolder, name: string): string | undefined {
  let text: string
  try {
    const { fd, stats } = folder.openFile(name)
    try {
      text = readFileSync(fd, 'utf8')
    } finally {
      closeSync(fd)
    }
    // Made this very moment, and not written yet.
    if (text === '' && Date.now() - Number(stats.mtimeMs) < 5000) return 'just begun'
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
  const [pid, start] = text.split(' ')
  return isAlive(Number(pid)) && startOf(Number(pid)) === start ? `process ${pid}` : undefined
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errnoOf(error) === 'EPERM'
  }
}

/** When a process started, so that another one which was given the same id isn't taken for it; '' where unknown. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

function remove(folder: SharedFolder, name: string): void {
  try {
    folder.within('', (root) => root.unlink(name))
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
}
