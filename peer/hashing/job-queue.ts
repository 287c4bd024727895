/** A file whose hashing is handed out step by step. */
interface Steps {
  /** bytes */
  readonly size: number
  /** Nothing is left to hand out. */
  readonly exhausted: boolean
}

/** Pieces are what people wait for, so they go first; but after so many, one step of other work has its turn. */
const COMMITS_IN_A_ROW = 8
/** Small files travel together: the way to a worker and back costs more than hashing one of them. */
const SMALL_BATCH_FILES = 64
const SMALL_BATCH_BYTES = 2 * 1024 * 1024

/**
 * Which work comes next. Three lanes: pieces that arrived from the network, whole small files, and large files. No lane
 * can starve another, and within the large lane the files take turns, so that one huge file holds nothing up.
 */
export class JobQueue<Commit, Task extends Steps> {
  #commits: Commit[] = []
  #small: Task[] = []
  #large: Task[] = []
  #commitsInARow = 0
  #smallWasLast = false

  addCommit(commit: Commit): void {
    this.#commits.push(commit)
  }

  /** A file that is handed out in one step. */
  addSmall(task: Task): void {
    this.#small.push(task)
  }

  /** A file of several steps; see `putBack`. */
  addLarge(task: Task): void {
    this.#large.push(task)
  }

  /** Puts a large file behind the others after one of its steps was taken. */
  putBack(task: Task): void {
    if (!task.exhausted) this.#large.push(task)
  }

  get isEmpty(): boolean {
    this.#dropExhausted()
    return this.#commits.length === 0 && this.#small.length === 0 && this.#large.length === 0
  }

  /** The next work, taken out of the queue. */
  next(): { commit: Commit } | { small: Task[] } | { large: Task } | undefined {
    this.#dropExhausted()
    const othersWait = this.#small.length > 0 || this.#large.length > 0
    if (this.#commits.length > 0 && (!othersWait || this.#commitsInARow < COMMITS_IN_A_ROW)) {
      this.#commitsInARow++
      return { commit: this.#commits.shift()! }
    }
    this.#commitsInARow = 0
    if (this.#small.length > 0 && (this.#large.length === 0 || !this.#smallWasLast)) {
      this.#smallWasLast = true
      return { small: this.#takeSmall() }
    }
    this.#smallWasLast = false
    const large = this.#large.shift()
    return large && { large }
  }

  #takeSmall(): Task[] {
    let count = 0
    for (let bytes = 0; count < this.#small.length && count < SMALL_BATCH_FILES && bytes < SMALL_BATCH_BYTES; count++)
      bytes += this.#small[count]!.size
    return this.#small.splice(0, count).filter((task) => !task.exhausted)
  }

  /** Those that were given up while they waited. */
  #dropExhausted(): void {
    while (this.#small[0]?.exhausted) this.#small.shift()
    while (this.#large[0]?.exhausted) this.#large.shift()
  }
}
