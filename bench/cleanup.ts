import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a benchmark makes outside its process, and how it goes again whatever ends the process but `kill -9`. */
const undone = new Set<() => void>()

/**
 * Has `undo` run when the benchmark ends, by itself, an error or Ctrl-C; the last one first.
 * @param undo synchronous, since nothing else runs in a process that ends
 * @returns runs it now, once
 */
export function atEnd(undo: () => void): () => void {
  listen()
  const once = () => {
    if (undone.delete(once)) undo()
  }
  undone.add(once)
  return once
}

/** Removes what runs left behind that were ended by `kill -9`: everything here is named by the process that made it. */
export function removeStale(names: readonly string[], owner: RegExp, remove: (name: string) => void): void {
  for (const name of names) {
    const pid = Number(owner.exec(name)?.[1] ?? Number.NaN)
    if (!Number.isNaN(pid) && !isAlive(pid)) remove(name)
  }
}

/** Removes folders of runs that are no more; those in memory would keep it until the machine is started anew. */
export function removeStaleFolders(): void {
  for (const base of ['/dev/shm', tmpdir()])
    try {
      removeStale(readdirSync(base), /^p2p-bench-(\d+)-/, (name) => {
        // Where it is a mount of its own.
        spawnSync('umount', ['--lazy', join(base, name)], { stdio: 'ignore' })
        rmSync(join(base, name), { recursive: true, force: true })
      })
    } catch {
      // No such folder, or not ours to remove.
    }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

let listening = false
function listen(): void {
  if (listening) return
  listening = true
  process.on('exit', () => {
    for (const undo of [...undone].reverse())
      try {
        undo()
      } catch (error) {
        process.stderr.write(`bench: ${(error as Error).message}\n`)
      }
  })
  const signals = { SIGINT: 130, SIGHUP: 129, SIGTERM: 143 } as const
  for (const [signal, code] of Object.entries(signals)) process.on(signal, () => process.exit(code))
}
