import type { Database } from 'better-sqlite3'

/**
 * Commits the writes of one turn of the event loop as one transaction: under load many requests share the cost of a
 * commit, and a lone request waits for nothing. Work that throws undoes the whole group, so it refuses before it
 * writes, and throws only where the storage fails.
 */
export class GroupCommit {
  readonly #db: Database
  readonly #onRollback: () => void
  #waiting: { done: () => void; failed: (error: unknown) => void }[] = []

  /** `onRollback` runs after a group was undone, before its writers hear of it. */
  constructor(db: Database, onRollback: () => void) {
    this.#db = db
    this.#onRollback = onRollback
  }

  /** Runs `work` at once; resolves with its result when that is committed. */
  write<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      try {
        if (this.#waiting.length === 0) {
          this.#db.exec('begin immediate')
          setImmediate(() => this.flush())
        }
        const result = work()
        this.#waiting.push({ done: () => resolve(result), failed: reject })
      } catch (error) {
        this.#waiting.push({ done: () => reject(error), failed: reject })
        this.#undo(error)
      }
    })
  }

  flush(): void {
    if (this.#waiting.length === 0) return
    try {
      this.#db.exec('commit')
    } catch (error) {
      this.#undo(error)
      return
    }
    for (const { done } of this.#take()) done()
  }

  #undo(error: unknown): void {
    // A full disk may have made SQLite roll back by itself.
    if (this.#db.inTransaction) this.#db.exec('rollback')
    this.#onRollback()
    for (const { failed } of this.#take()) failed(error)
  }

  #take() {
    const waiting = this.#waiting
    this.#waiting = []
    return waiting
  }
}
