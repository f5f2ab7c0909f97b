"""The code of the user's document, word for word, for the tests that run it.

Where it says which part of the document it is from, the headings are the document's own.
"""

# ruff: noqa: RUF001, RUF003

# vLLM側：GDS設定と初期化, 1
CONFIGURATION = """\
# lmcache_config_gds.yaml

backend: "gds"                    # ← GDS バックエンド選択

gds_config:
  # GDS（NVMe）の場所
  cache_dir: "/mnt/nvme/llm_cache"

  # GPU ↔ NVMe の直結制御
  enable_rdma: true               # RDMA統合（NixL）
  enable_gds: true                # GDS有効化

  # パフォーマンス設定
  max_concurrent_ops: 4           # 並行DMA操作数
  block_size: 1048576             # 1MB ブロック単位
  prefetch_factor: 2              # 先読み倍数

  # キャッシュ管理
  max_cache_size_gb: 256          # NVMe 使用量上限
  eviction_policy: "lru"          # LRU削除ポリシー

  # 圧縮設定
  enable_compression: false       # KV圧縮（オフで最高速）
  compression_algo: "zstd"        # zstd/lz4

# 共通設定
chunk_size: 256                   # トークン単位チャンク
enable_layerwise: true            # レイヤーワイズ処理
use_mla: false                    # MLA（マルチ層注意）
save_decode_cache: true           # デコード時のセーブ

# 監視・ログ
enable_metrics: true              # メトリクス収集
log_level: "info"
"""

# vLLM側：GDS設定と初期化, 2
INITIALIZATION = '''\
def _init_lmcache_engine(
    lmcache_config: LMCacheEngineConfig,
    vllm_config: "VllmConfig",
) -> LMCacheEngine:
    """
    GDS対応の LMCache engine を初期化
    """

    # 1. LMCache config をロード（外部ライブラリ）
    # lmcache_config.backend = "gds" が設定されている
    assert isinstance(lmcache_config, LMCacheEngineConfig)

    # 2. GPU デバイス設定
    num_gpus = torch.cuda.device_count()
    local_rank = parallel_config.rank % num_gpus
    torch.cuda.set_device(local_rank)
    device = torch.device(f"cuda:{local_rank}")

    # 3. メタデータ構築（GDS が要求するKV形式情報）
    kv_shape = (
        num_layer,               # レイヤー数
        1 if use_mla else 2,     # K,V の2つ（MLA時は1）
        chunk_size,              # チャンク: 256トークン
        num_kv_head,             # 注意ヘッド数
        head_size                # ヘッドサイズ（64/128など）
    )

    metadata = LMCacheEngineMetadata(
        model=model_config.model,
        world_size=parallel_config.world_size,
        rank=parallel_config.rank,
        framework="vllm",
        kv_dtype=kv_dtype,       # float16 などKV の型
        kv_shape=kv_shape,
        use_mla=use_mla,
    )

    # 4. GPU Connector 選択（GDS 対応版）
    vllm_gpu_connector = VLLMPagedMemGPUConnectorV2(
        hidden_dim_size=num_kv_head * head_size,
        num_layer=num_layer,
        use_gpu=need_gpu_interm_buffer(lmcache_config),
        chunk_size=chunk_size,
        dtype=kv_dtype,
        device=device,
        use_mla=use_mla,
    )

    # 5. LMCache Engine ビルド（backend="gds"）
    # ここで GDS バックエンド が選択される
    engine = LMCacheEngineBuilder.get_or_create(
        ENGINE_NAME,
        lmcache_config,          # ← backend="gds" を含む
        metadata,
        vllm_gpu_connector,      # GPU↔GDS通信用
        tpg.broadcast,
        tpg.broadcast_object,
    )

    return engine
'''

# GDS使用時の最適化設定, 推奨設定
RECOMMENDED = """\
backend: "gds"

gds_config:
  cache_dir: "/mnt/nvme/llm_cache"  # NVMe SSD（PCIe 4.0以上推奨）
  enable_rdma: true                  # NixL 統合（RDMA対応NIC必須）
  max_concurrent_ops: 4              # A100 推奨値
  prefetch_factor: 2                 # 次々層を先読み
  enable_compression: false          # 圧縮無し（DMA速度重視）

chunk_size: 256
enable_layerwise: true               # レイヤーワイズ非同期必須
use_async: true                      # 非同期 DMA
"""

# GDS使用時の最適化設定, 監視・チューニング
MONITORING = """\
# Metrics 取得
from lmcache.observability import LMCStatsMonitor

monitor = LMCStatsMonitor.GetOrCreate()

# 読込統計
stats = monitor.get_interval_stats()
print(f"GDS Read Throughput: {stats.read_throughput_gbs} GB/s")
print(f"GDS Read Latency: {stats.read_latency_ms} ms")
print(f"Cache Hit Rate: {stats.cache_hit_rate}%")
print(f"DMA Utilization: {stats.dma_utilization}%")
"""

# 実装例：カスタム GDS バックエンド
CUSTOM_BACKEND = '''\
from lmcache.v1.cache_engine import CacheBackend

class CustomGDSBackend(CacheBackend):
    """カスタマイズ GDS バックエンド"""

    def __init__(self, config):
        super().__init__(config)

        # GDS 初期化
        self.gds_fd = cuFile.open(config.cache_dir)
        self.device = torch.device("cuda:0")

        # 統計
        self.metrics = {
            "read_bytes": 0,
            "read_time": 0,
            "hit_count": 0,
            "miss_count": 0,
        }

    def retrieve(self, req_id, tokens):
        """GDS ↔ GPU の Read"""

        cache_key = hash(tuple(tokens))
        file_path = f"/cache/{req_id}/{cache_key}.kv"

        start = time.time()

        try:
            # cuFile で読込
            gpu_buffer = torch.empty(
                (len(tokens), self.hidden_dim),
                dtype=torch.float16,
                device=self.device
            )

            bytes_read = cuFile.read(
                self.gds_fd,
                gpu_buffer.data_ptr(),
                file_path,
                gpu_buffer.numel() * 2  # float16 = 2bytes
            )

            self.metrics["read_bytes"] += bytes_read
            self.metrics["read_time"] += (time.time() - start)
            self.metrics["hit_count"] += 1

            return gpu_buffer

        except FileNotFoundError:
            self.metrics["miss_count"] += 1
            return None

    def store(self, req_id, tokens, kv_data):
        """GPU → GDS の Write"""

        cache_key = hash(tuple(tokens))
        file_path = f"/cache/{req_id}/{cache_key}.kv"

        # GPU から NVMe へ直結 DMA
        cuFile.write(
            self.gds_fd,
            kv_data.data_ptr(),  # GPU ポインタ
            file_path,
            kv_data.numel() * 2
        )

    def get_stats(self):
        return {
            "throughput_gbs": (
                self.metrics["read_bytes"] / 1e9 /
                (self.metrics["read_time"] + 1e-6)
            ),
            "hit_rate": (
                self.metrics["hit_count"] /
                (self.metrics["hit_count"] + self.metrics["miss_count"] + 1)
            ),
        }
'''

# セットアップ手順, 3
SETUP = """\
backend: "gds"
gds_config:
  cache_dir: "/mnt/nvme"
  enable_rdma: true
"""
