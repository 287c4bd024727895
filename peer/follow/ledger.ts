import type { ContentId, FileName } from '../../common/ids.ts'

/** One file that a follow wants, or has fetched. */
export interface FollowedFile {
  readonly name: FileName
  readonly id: ContentId
  /** bytes: as was told until it is fetched, proven from then on */
  readonly size: number
  /** of the rule that it counts for */
  readonly pattern: string
  /**
   * `wanted`: under way, or waiting its turn; `here`: fetched, and shared as it was fetched; `gone`: the user took it
   * away, and so does not want it: no other of this content is fetched under this name.
   */
  readonly state: 'wanted' | 'here' | 'gone'
  /** whether a manifest has proven the size of one that is wanted */
  readonly proven?: boolean
}

/** What the files of one rule come to. */
export interface Account {
  readonly wanted: { readonly files: number; readonly bytes: number }
  readonly here: { readonly files: number; readonly bytes: number }
}

type Sum = { files: number; bytes: number }
type Sums = Record<FollowedFile['state'] | 'proven', Sum>

/** Which files are fetched for which rule, and what they come to. Synchronous, and no I/O. */
export class Ledger {
  readonly #files = new Map<FileName, FollowedFile>()
  readonly #accounts = new Map<string, Sums>()
  #wanted = 0

  get(name: FileName): FollowedFile | undefined {
    return this.#files.get(name)
  }

  files(): IterableIterator<FollowedFile> {
    return this.#files.values()
  }

  of(pattern: string): FollowedFile[] {
    return [...this.#files.values()].filter((file) => file.pattern === pattern)
  }

  /** In place of what stood under its name. */
  put(file: FollowedFile): void {
    this.drop(file.name)
    this.#files.set(file.name, file)
    this.#add(file, 1)
  }

  drop(name: FileName): void {
    const file = this.#files.get(name)
    if (!file) return
    this.#files.delete(name)
    this.#add(file, -1)
  }

  /** Files wanted for any rule. */
  get wanted(): number {
    return this.#wanted
  }

  account(pattern: string): Account {
    return this.#account(pattern)
  }

  /**
   * Bytes of what counts for a quota: fetched and here, or under way and proven to be so large. What is only told of takes
   * no room from others: anybody may tell of anything.
   */
  used(pattern: string): number {
    const { proven, here } = this.#account(pattern)
    return proven.bytes + here.bytes
  }

  /** Files that it has, wants or had. */
  known(pattern: string): number {
    const { wanted, here, gone } = this.#account(pattern)
    return wanted.files + here.files + gone.files
  }

  #account(pattern: string): Sums {
    const none = () => ({ files: 0, bytes: 0 })
    return this.#accounts.get(pattern) ?? { wanted: none(), proven: none(), here: none(), gone: none() }
  }

  #add({ pattern, state, size, proven }: FollowedFile, sign: 1 | -1): void {
    const account = this.#account(pattern)
    account[state].files += sign
    account[state].bytes += sign * size
    if (state === 'wanted') {
      this.#wanted += sign
      if (proven) {
        account.proven.files += sign
        account.proven.bytes += sign * size
      }
    }
    this.#accounts.set(pattern, account)
  }
}
