// Its old place, for those who import it from here.
export { type FolderRow, type FriendPages, friendLister } from './folder/listing.ts'
