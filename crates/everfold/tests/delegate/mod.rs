//! What an engine around another one does not change.

/// The named methods of `Engine`, each handed on to `self.inner`.
macro_rules! delegate {
    ($($method:ident)*) => { $(crate::delegate::delegate! { @$method })* };
    (@identity) => {
        fn identity(&self) -> &Identity {
            self.inner.identity()
        }
    };
    (@limits) => {
        fn limits(&self) -> Limits {
            self.inner.limits()
        }
    };
    (@claim) => {
        fn claim(&self, partition: Partition) -> BoxFuture<'_, Result<Claim, OwnerError>> {
            self.inner.claim(partition)
        }
    };
    (@renew) => {
        fn renew(
            &self,
            partition: Partition,
            epoch: Epoch,
            floor: Stamp,
        ) -> BoxFuture<'_, Result<(), OwnerError>> {
            self.inner.renew(partition, epoch, floor)
        }
    };
    (@release) => {
        fn release(
            &self,
            partition: Partition,
            epoch: Epoch,
        ) -> BoxFuture<'_, Result<(), OwnerError>> {
            self.inner.release(partition, epoch)
        }
    };
    (@confirm) => {
        fn confirm(
            &self,
            partition: Partition,
            epoch: Epoch,
        ) -> BoxFuture<'_, Result<(), OwnerError>> {
            self.inner.confirm(partition, epoch)
        }
    };
    (@read) => {
        fn read(
            &self,
            partition: Partition,
            after: Offset,
            limit: ReadLimit,
        ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
            self.inner.read(partition, after, limit)
        }

        fn read_chained(
            &self,
            partition: Partition,
            after: Offset,
            limit: ReadLimit,
        ) -> BoxFuture<'_, Result<Chunk, ReadError>> {
            self.inner.read_chained(partition, after, limit)
        }
    };
    (@safe_head) => {
        fn safe_head(&self, partition: Partition) -> BoxFuture<'_, Result<Offset, ReadError>> {
            self.inner.safe_head(partition)
        }
    };
    (@wait) => {
        fn wait(
            &self,
            partition: Partition,
            after: Offset,
        ) -> BoxFuture<'_, Result<Offset, ReadError>> {
            self.inner.wait(partition, after)
        }
    };
    (@indexes_entities) => {
        fn indexes_entities(&self) -> bool {
            self.inner.indexes_entities()
        }
    };
    (@read_entity) => {
        fn read_entity<'a>(
            &'a self,
            partition: Partition,
            entity: &'a EntityKey,
            after: u64,
            limit: usize,
        ) -> BoxFuture<'a, Result<Vec<Arc<Record>>, ReadError>> {
            self.inner.read_entity(partition, entity, after, limit)
        }
    };
    (@revision) => {
        fn revision<'a>(&'a self, area: &'a Area) -> BoxFuture<'a, Result<Revision, ReadError>> {
            self.inner.revision(area)
        }
    };
    (@get) => {
        fn get<'a>(
            &'a self,
            area: &'a Area,
            key: &'a [u8],
        ) -> BoxFuture<'a, Result<Option<Bytes>, ReadError>> {
            self.inner.get(area, key)
        }
    };
    (@scan) => {
        fn scan<'a>(
            &'a self,
            area: &'a Area,
            after: Option<&'a [u8]>,
            limit: usize,
        ) -> BoxFuture<'a, Result<Entries, ReadError>> {
            self.inner.scan(area, after, limit)
        }
    };
    (@doctor) => {
        fn doctor(&self) -> Vec<Finding> {
            self.inner.doctor()
        }
    };
    (@durability) => {
        fn durability(&self) -> String {
            self.inner.durability()
        }
    };
    (@close) => {
        fn close(&self) -> BoxFuture<'_, ()> {
            self.inner.close()
        }
    };
}

pub(crate) use delegate;
